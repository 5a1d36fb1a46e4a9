"""The TensorRT backend: engine, CUDA memory and graphs, layers and profile."""
