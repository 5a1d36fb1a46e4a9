"""The public functions and classes for programs; `medtex_edge` lists them and imports each at its first use."""
