"""The TensorRT backend: an engine that was built on this device, run on its GPU. Importing it needs no GPU."""

from medtex_edge.runtime.backend.tensorrt.runner import TensorRtBackend, open, open_engine

__all__ = ["TensorRtBackend", "open", "open_engine"]
