"""Eight-bit integers written into the graph: quantisation, calibration, the choice of layers."""
