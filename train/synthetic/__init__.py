"""Synthetic fundus photographs and videos with exact lesion masks: for tests and demonstration, never for a claim."""
