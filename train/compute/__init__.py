"""What a training runs on: device and precision, one process or several, fast depthwise gradients."""
