"""The cache key of a TensorRT engine: its graph, its precision, and the GPU, TensorRT and driver of this device."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on: engines whose keys differ in any field are different engines."""

    graph_sha256: str  # of the ONNX file, hexadecimal
    precision: str  # of the graph
    gpu: str  # its name by the driver
    capability: str  # such as "8.7"
    trt_module: str  # "tensorrt" or "tensorrt_rtx"
    trt_version: str
    driver: str

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.precision}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def fits(self, other: EngineKey) -> bool:
        """Whether both are of the same GPU, TensorRT and driver, whatever the graph."""
        return {**asdict(self), "graph_sha256": "", "precision": ""} == {
            **asdict(other), "graph_sha256": "", "precision": "",
        }  # fmt: skip


def lacks_tensorrt() -> bool:
    """Whether this device has no driver of a GPU or no TensorRT. TensorRT is not imported: it can crash without one."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    from medtex_edge.runtime.backend.tensorrt import runner

    return not any(importlib.util.find_spec(name) for name in runner.MODULES)


def precision_of(bundle: Bundle, requested: str | None) -> str:
    """The precision of an engine: the requested one, else fp16 where the bundle has it, else fp32."""
    return requested or ("fp16" if "fp16" in bundle.precisions else "fp32")


def key_of(bundle: Bundle, precision: str) -> EngineKey:
    """The key of that graph's engine on this device.

    Raises `BundleError` for a precision that the bundle lacks, `BackendError` where TensorRT cannot serve here.
    """
    if precision not in bundle.precisions:
        bundle.model(precision)  # raises, and lists the precisions of the bundle
    return key_of_graph(bundle.manifest[f"model.{precision}.onnx"], precision)


def key_of_graph(graph_sha256: str, precision: str) -> EngineKey:
    """The key of the engine of any graph on this device. Raises `BackendError` where TensorRT cannot serve here."""
    from medtex_edge.runtime.backend.tensorrt import cuda, runner

    device, trt = cuda.device(), runner.module()
    return EngineKey(
        graph_sha256, precision, device.name, device.capability, trt.__name__, str(trt.__version__), device.driver
    )
