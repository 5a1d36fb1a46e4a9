"""The maps that an evaluation compares: ours, attribution methods, and controls."""
