"""The gate: a graph is compared with the trained model on photographs, and refused where it differs."""
