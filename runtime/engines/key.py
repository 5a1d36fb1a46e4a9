"""What an engine of this device is built for: its GPU, its TensorRT, its driver."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import TYPE_CHECKING

from medtex_edge.runtime.engines.cache import EngineKey

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle


def lacks_tensorrt() -> bool:
    """Whether this device has no GPU's driver or no TensorRT, found by a look. Without a driver TensorRT can crash."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    from medtex_edge.runtime.backend.tensorrt import runner

    return not any(importlib.util.find_spec(name) for name in runner.MODULES)


def precision_of(bundle: Bundle, asked: str | None) -> str:
    """The precision of an engine: what was asked for, else fp16 where the bundle has it."""
    return asked or ("fp16" if "fp16" in bundle.precisions else "fp32")


def key_of(bundle: Bundle, precision: str) -> EngineKey:
    """The key of that graph's engine on this device.

    Raises `BundleError` for a precision that the bundle lacks, `BackendError` where TensorRT cannot serve here.
    """
    if precision not in bundle.precisions:
        bundle.model(precision)  # says which there are
    return key(bundle.manifest[f"model.{precision}.onnx"], precision)


def key(graph_sha256: str, precision: str) -> EngineKey:
    """The same, of any graph."""
    from medtex_edge.runtime.backend.tensorrt import cuda, runner

    device, trt = cuda.device(), runner.module()
    return EngineKey(
        graph_sha256, precision, device.name, device.capability, trt.__name__, str(trt.__version__), device.driver
    )
