"""Whether a frame can be graded: its metrics, the limits, and motion between frames."""
