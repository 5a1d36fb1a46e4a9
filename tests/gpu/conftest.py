"""Tests that need CUDA. Where there is no device they skip, for that reason alone: a missing pycuda is a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gpu_engines import no_device
from gpu_kernels import Kernels

from medtex_edge.runtime.backend.tensorrt import cuda


@pytest.fixture(autouse=True)
def _needs_a_device() -> None:
    if no_device():
        pytest.skip(f"no CUDA device: {no_device()}")


@pytest.fixture
def kernels() -> Iterator[Kernels]:
    """With the context current in this thread."""
    with cuda.context():
        made = Kernels()
        yield made
        made.close()
