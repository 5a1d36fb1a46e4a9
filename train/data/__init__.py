"""Photographs and labels: reading, checking, splitting, caching, augmenting and batching a dataset."""
