"""Small graphs for the tests of the TensorRT builder."""

from __future__ import annotations

from typing import Any

import onnx
from bundles import graph
from onnx import TensorProto, helper


def changed(change: Any) -> bytes:
    """The tiny graph after `change(graph)`."""
    model = onnx.load_from_string(graph())
    change(model.graph)
    return bytes(model.SerializeToString())


def node_of(made: onnx.GraphProto, operator: str) -> onnx.NodeProto:
    node = next(node for node in made.node if node.op_type == operator)
    node.name = f"the_{operator}"
    return node


def small(nodes: list[Any], constants: list[Any], shape: list[Any], side: int = 8) -> bytes:
    """A graph from image (N, side, side, 3) to y of that shape."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    made = helper.make_graph(
        nodes, "small", [image], [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], constants
    )
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())
