"""The training loop: optimisation, the steps of each method, prediction, progress and trackers."""
