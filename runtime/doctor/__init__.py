"""The checks of `medtex-edge doctor`: what this machine can do, and what is missing."""
