"""The picture that the model sees: crop geometry, its reference, pixel formats, photographs and their headers."""
