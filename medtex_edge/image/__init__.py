"""The model's input image: crop geometry, its reference, pixel formats, photographs and their headers."""
