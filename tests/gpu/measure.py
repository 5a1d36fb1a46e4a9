"""What a frame costs on this machine's GPU, as a section for docs/evidence/history.md. `make gpu-check` runs it.

Of a bundle's graphs, or of the default student and explainer with random weights, which take as long.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gpu_engines
import numpy as np

from medtex_edge.bundle import Bundle
from medtex_edge.contract import Contract
from medtex_edge.files import atomic_write
from medtex_edge.runtime.backend import Backend
from medtex_edge.runtime.backend.tensorrt import cuda, runner

WARM_UP = 200  # frames until the clocks of the GPU have risen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="a .medtex file; default: random weights at 224 pixels")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--frames", type=int, default=2000)
    options = parser.parse_args()
    if gpu_engines.no_device():
        print(f"error: no CUDA device: {gpu_engines.no_device()}", file=sys.stderr)
        return 2
    contract, models = of_bundle(options.bundle) if options.bundle else random_weights()
    lines = list(section(contract, models, options.frames))
    with atomic_write(options.out, "w") as file:
        file.write("\n".join(lines) + "\n")
    print(*lines, sep="\n")
    return 0


def of_bundle(path: Path) -> tuple[Contract, dict[str, bytes]]:
    bundle = Bundle.open(path)
    return bundle.contract, {precision: bundle.model(precision) for precision in bundle.precisions}


def random_weights() -> tuple[Contract, dict[str, bytes]]:
    import bundles
    import torch

    from medtex_edge.export.graph import Deployed
    from medtex_edge.export.onnx import to_onnx
    from medtex_edge.export.precision.half import to_half
    from medtex_edge.train.config import TrainConfig
    from medtex_edge.train.models.explainer import Explainer
    from medtex_edge.train.models.medtex import MedTex
    from medtex_edge.train.models.student import Classifier

    torch.manual_seed(0)
    config, contract = TrainConfig(), bundles.contract(224, tuple("01234"))
    model = MedTex(
        Classifier(config.student, len(contract.classes), weights="none"),
        Explainer(config.student, stages=config.stages, width=config.width, weights="none"),
        size=config.size, baseline_grid=config.baseline_grid,
    ).eval()  # fmt: skip
    full = to_onnx(Deployed(model), config.size)
    return contract, {"fp32": full, "fp16": to_half(full)}


def section(contract: Contract, models: dict[str, bytes], frames: int) -> Iterator[str]:
    """Markdown, line by line."""
    device, version = cuda.device(), gpu_engines.tensorrt_version()
    yield f"## On a GPU, {datetime.date.today().isoformat()}"
    yield ""
    yield (
        f"`make gpu-check`: {device.name}, compute capability {device.capability}, CUDA {device.driver}, "
        f"{'memory shared with the processor' if device.integrated else 'memory of its own'}, "
        f"{version or 'no TensorRT: ONNX Runtime, CUDA provider'}; {contract.height} x {contract.width} pixels, "
        f"{frames} frames after {WARM_UP}, medians (90th percentiles), milliseconds."
    )
    yield ""
    yield "| precision | GPU, one launch | GPU, call by call | of that launching | `infer`, end to end | call by call |"
    yield "|---|---|---|---|---|---|"
    for precision, model in models.items():
        yield f"| {precision} | {' | '.join(row(contract, model, precision, frames, bool(version)))} |"


def row(contract: Contract, model: bytes, label: str, frames: int, engine: bool) -> list[str]:
    if not engine:
        with gpu_engines.open_here(model, contract, label) as backend:
            return ["", "", "", formatted(timed(backend, contract, frames)[1]), ""]
    plan = gpu_engines.plan_of(model)
    with runner.open_engine(plan, contract, label=label) as backend:
        captured, gpu, whole = not backend.not_captured, *timed(backend, contract, frames)
    with runner.open_engine(plan, contract, label=label, graph=False) as backend:
        gpu_queued, whole_queued = timed(backend, contract, frames)
    share = f"{1 - np.median(gpu) / np.median(gpu_queued):.0%}" if captured else "not captured"
    return [formatted(gpu), formatted(gpu_queued), share, formatted(whole), formatted(whole_queued)]


def timed(backend: Backend, contract: Contract, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of each frame: on the GPU, and from call to answer."""
    images = np.random.default_rng(0).integers(0, 256, (8, 1, contract.height, contract.width, 3), np.uint8)
    gpu, whole = [], []
    for index in range(WARM_UP + frames):
        began = time.perf_counter()
        outputs = backend.infer(images[index % len(images)])
        whole.append((time.perf_counter() - began) * 1e3)
        gpu.append(outputs.gpu_ms or np.nan)
    return np.array(gpu[WARM_UP:]), np.array(whole[WARM_UP:])


def formatted(milliseconds: np.ndarray) -> str:
    return f"{np.median(milliseconds):.3f} ({np.percentile(milliseconds, 90):.3f})"


if __name__ == "__main__":
    sys.exit(main())
