"""What runs a graph on this machine's GPU: TensorRT, built here, or else ONNX Runtime with its CUDA provider."""

from __future__ import annotations

import ctypes
from functools import lru_cache

from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend import Backend, onnxruntime
from medtex_edge.runtime.backend.tensorrt import cuda, runner

CUDA = "CUDAExecutionProvider"


@lru_cache
def no_device() -> str:
    """Why there is no CUDA device, or ''. Asks the driver itself."""
    try:
        driver = ctypes.CDLL(cuda.LIBRARY)
    except OSError:
        return f"{cuda.LIBRARY} is not there"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return f"the driver answers {code}" if code else "" if count.value else "the driver knows none"


def tensorrt_version() -> str:
    """Such as "tensorrt 10.3.0", or ''."""
    try:
        trt = runner.module()
    except BackendError:
        return ""
    return f"{trt.__name__} {trt.__version__}"


def cuda_provider() -> bool:
    """Whether this ONNX Runtime has it."""
    import onnxruntime as engine

    return CUDA in engine.get_available_providers()


def plan_of(model: bytes) -> bytes:
    """An engine for the GPU at hand."""
    from medtex_edge.export.tensorrt import builder

    return builder.build(runner.module(), model).plan


def open_here(model: bytes, contract: Contract, label: str = "graph") -> Backend:
    """The better of both. Raises `BackendError` where there is neither."""
    if tensorrt_version():
        return runner.open_engine(plan_of(model), contract, label=label)
    return onnxruntime.open_graph(model, contract, provider=CUDA, label=label)
