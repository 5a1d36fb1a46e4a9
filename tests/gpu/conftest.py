"""Tests that need CUDA. Where there is no device they skip, for that reason alone: a missing pycuda is a failure."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import lru_cache

import pytest
from gpu_kernels import Kernels

from medtex_edge.runtime import cuda


@lru_cache
def no_device() -> str:
    """Why there is no CUDA device, or ''. Asks the driver itself."""
    try:
        driver = ctypes.CDLL(cuda.LIBRARY)
    except OSError:
        return f"{cuda.LIBRARY} is not there"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return f"the driver answers {code}" if code else "" if count.value else "the driver knows none"


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
