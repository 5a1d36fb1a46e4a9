"""Graphs for the tests of an export."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def spoiled(content: bytes, pattern: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> bytes:
    """The same graph with the first matching weight changed."""
    model = onnx.load_from_string(content)
    item = next(item for item in model.graph.initializer if re.search(pattern, item.name))
    item.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(item).copy()), item.name))
    return bytes(model.SerializeToString())


def written(signature: str, body: str, weights: dict[str, Any] | None = None, kind: str = "float16") -> bytes:
    """An ONNX file of a signature and nodes in ONNX's own notation; weights are name -> shape, or values."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g {signature} {{ {body} }}')
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    for name, what in (weights or {}).items():
        value = what if isinstance(what, np.ndarray) else np.ones(what, np.dtype(kind))
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return bytes(model.SerializeToString())
