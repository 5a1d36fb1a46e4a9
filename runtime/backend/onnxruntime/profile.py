"""Layers and their times, from the file of events that ONNX Runtime's own profiler writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import BackendError
from medtex_edge.files import storage
from medtex_edge.runtime.backend.onnxruntime import runner
from medtex_edge.runtime.backend.profile import GPU, LAUNCHING, PROCESSOR, MeasuredLayer

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

Event = dict[str, Any]

_RUN_ENDS = "model_run"
_TIMED = "_kernel_time"
_ASYNCHRONOUS = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
_INSERTED, _BLOCKED = "InsertedPrecisionFreeCast_", "_nchwc"  # what its optimiser adds to the name of a node
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}


def watch(
    bundle: Bundle,
    images: Sequence[npt.NDArray[np.uint8]],
    *,
    precision: str = "fp32",
    threads: int | None = None,
    provider: str = "",
) -> tuple[str, list[MeasuredLayer], list[dict[str, float]]]:
    """Return the clock, the layers, and for each image the milliseconds by layer. No file is left.

    Each of `images` is (H, W, 3) uint8 RGB. Raises what `onnxruntime.open` raises, and `StorageError` where the disk
    has no room for the events.
    """
    with storage(Path(os.environ.get("TMPDIR", "/tmp"))), TemporaryDirectory(prefix="medtex-edge-") as folder:
        session = runner.open(
            bundle, precision=precision, threads=threads, provider=provider or runner.CPU,
            trace=Path(folder) / "trace",
        )  # fmt: skip
        with session as backend:
            for image in images:
                backend.infer(image[None])
            events = _read(backend.end_trace())
    return read(events)


def read(events: Iterable[Event]) -> tuple[str, list[MeasuredLayer], list[dict[str, float]]]:
    """Compute the same from `events`. A node on a GPU takes the time of the kernels listed after it."""
    watched: dict[str, MeasuredLayer] = {}
    runs: list[dict[str, float]] = [{}]
    kernels: list[dict[str, float]] = [{}]  # the same by the GPU's clock
    name, away, gpu_timed = "", False, False
    for event in events:
        ms = float(event.get("dur", 0)) / 1e3
        if event.get("cat") == "Node" and str(event["name"]).endswith(_TIMED):
            name = str(event["name"]).removesuffix(_TIMED)
            arguments = event.get("args", {})
            watched.setdefault(name, _measured_layer(name, arguments))
            asynchronous = arguments.get("provider") in _ASYNCHRONOUS
            away = away or asynchronous
            runs[-1][name] = runs[-1].get(name, 0.0) + ms
            kernels[-1][name] = kernels[-1].get(name, 0.0) + (0.0 if asynchronous else ms)
        elif event.get("cat") == "Kernel" and name in kernels[-1]:
            gpu_timed = True
            kernels[-1][name] += ms
        elif event.get("name") == _RUN_ENDS:
            runs.append({})
            kernels.append({})
    clock = PROCESSOR if not away else GPU if gpu_timed else LAUNCHING
    return clock, list(watched.values()), (kernels if gpu_timed else runs)[:-1]


def _measured_layer(name: str, arguments: Event) -> MeasuredLayer:
    node = name.removeprefix(_INSERTED).removesuffix(_BLOCKED)
    # Each a list of {type: shape}. What a node reads first is what it works on: behind it come weights and sizes.
    shapes = [*arguments.get("input_type_shape", ()), *arguments.get("output_type_shape", ())]
    kind = next((str(key) for shape in shapes for key in shape), "unknown")
    return MeasuredLayer(name, str(arguments.get("op_name", "unknown")), _TYPES.get(kind, kind), (node,))


def _read(path: Path) -> list[Event]:
    try:
        events = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise BackendError(f"onnxruntime: its profile cannot be read: {error}", hint="is the disk full?") from error
    if not isinstance(events, list):
        raise BackendError(f"onnxruntime: expected a list of events in its profile, got {type(events).__name__}")
    return events
