"""The graphs that the tests of the estimate share."""

from __future__ import annotations

from collections import defaultdict

import pytest
import run_kit

from medtex_edge.export.graph import Deployed
from medtex_edge.export.int8 import quantize
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.precision.half import to_half


@pytest.fixture(scope="session")
def full() -> bytes:
    model = run_kit.model()
    return to_onnx(Deployed(model), model.size)


@pytest.fixture(scope="session")
def int8_graph(full: bytes) -> bytes:
    scales: dict[str, float] = defaultdict(lambda: 0.1)
    nodes = {layer.node for layer in quantize.layers(full) if layer.kind != "mask"}
    return to_half(quantize.quantise(full, scales, nodes))
