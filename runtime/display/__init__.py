"""The display: overlay, text, annotations, window, snapshots."""
