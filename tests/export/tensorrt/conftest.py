"""Every version of TensorRT, by its names, and an end without warnings."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest
import tensorrt_kit
import tensorrt_rtx as rtx


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    """Builders that tracebacks kept alive warn when they go; here, rather than at the end of the whole run."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(params=tensorrt_kit.VERSIONS)
def version(request: pytest.FixtureRequest) -> Iterator[tensorrt_kit.Version]:
    """TensorRT for RTX by the names of another version."""
    return tensorrt_kit.Version(request.param, rtx)
