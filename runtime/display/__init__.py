"""What a person sees: overlay, text, annotations, window, snapshots."""
