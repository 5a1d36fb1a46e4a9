"""The quality gate: metrics of a frame, thresholds that refuse it (dark, bright, blurred), and motion."""
