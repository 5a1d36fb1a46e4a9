"""Edge deployment toolkit for screening devices: train, export, run."""

__version__ = "0.1.0"
