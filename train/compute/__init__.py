"""Where a training runs: device and precision, processes, compiled networks, fast depthwise gradients."""
