"""Photographs and their labels: what a data set looks like on disk, how it is checked, split, cached and batched."""
