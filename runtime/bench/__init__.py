"""The benchmark of `medtex-edge bench`: where the time of a frame goes."""
