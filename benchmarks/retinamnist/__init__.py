"""RetinaMNIST, 28 x 28, on its official test split."""
