"""The builder of TensorRT engines, on the device that runs them."""
