"""Int8 written into the graph: quantisation, calibration, the choice of layers."""
