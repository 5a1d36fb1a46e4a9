"""Estimated latency of a graph on a board, by arithmetic."""
