"""Layers and their times by TensorRT's own profiler, which reports them after each run."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medtex_edge.runtime.backend.profile import GPU, MeasuredLayer
from medtex_edge.runtime.backend.tensorrt import cuda, runner
from medtex_edge.runtime.backend.tensorrt.engine import Engine
from medtex_edge.runtime.backend.tensorrt.layers import of_engine

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle


def watch(
    bundle: Bundle,
    images: Sequence[npt.NDArray[np.uint8]],
    *,
    precision: str = "fp32",
    plan: bytes | None = None,
    trt: ModuleType | None = None,
) -> tuple[str, list[MeasuredLayer], list[dict[str, float]]]:
    """Return the clock, the layers, and for each image the milliseconds by layer.

    The engine is `plan`, or the one that was built on this device. Each of `images` is (H, W, 3) uint8 RGB. A captured
    graph reports no layers, so none is used. Raises what `tensorrt.open` raises.
    """
    c = bundle.contract
    plan = plan or runner.built(bundle, precision)
    context = cuda.context()  # first: without a driver TensorRT's own start ends the process
    trt = trt or runner.module()
    engine = Engine(context, trt, f"{trt.__name__}:{precision}")
    probabilities = np.empty(len(c.classes), np.float32)
    saliency = np.empty((c.saliency_height, c.saliency_width), np.float32)
    runs: list[dict[str, float]] = []

    def add_time(name: str, ms: float) -> None:
        runs[-1][name] = runs[-1].get(name, 0.0) + ms

    try:
        engine.open(plan, c)
        engine.watch(add_time)
        for image in images:
            runs.append({})
            engine.run(image, probabilities, saliency)
        known = {layer["name"]: layer for layer in of_engine(engine.inspect())}
    finally:
        engine.close()
    return (
        GPU,
        [_measured_layer(name, known.get(name, {})) for name in dict.fromkeys(n for run in runs for n in run)],
        runs,
    )


def _measured_layer(name: str, layer: dict[str, object]) -> MeasuredLayer:
    nodes = layer.get("nodes")
    return MeasuredLayer(
        name, str(layer.get("kind", "unknown")), str(layer.get("precision", "unknown")),
        tuple(nodes) if isinstance(nodes, list) else (),
    )  # fmt: skip
