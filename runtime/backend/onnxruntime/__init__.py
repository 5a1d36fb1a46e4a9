"""The ONNX Runtime backend: the embedded default, on the CPU of any board; other execution providers by name."""

from medtex_edge.runtime.backend.onnxruntime.runner import (
    CPU,
    CUDA,
    OnnxRuntimeBackend,
    open,
    open_best,
    open_graph,
    providers,
)

__all__ = ["CPU", "CUDA", "OnnxRuntimeBackend", "open", "open_best", "open_graph", "providers"]
