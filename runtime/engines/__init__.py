"""TensorRT engines kept on this device: cache, key, build process."""
