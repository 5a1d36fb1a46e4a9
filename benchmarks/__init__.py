"""Measurements of the project: each program runs as `python -m benchmarks.NAME` in the root of the repository."""
