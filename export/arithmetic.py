"""The arithmetic of an ONNX graph, read from its nodes: shapes, multiply-adds, which nodes are the explainer's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

MATRICES = frozenset({"Conv", "Gemm", "MatMul"})
Shapes = Mapping[str, tuple[int | None, ...]]


def shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Tensor name -> shape, None where a side depends on the batch."""
    known = {i.name: tuple(i.dims) for i in graph.initializer}
    found: dict[str, tuple[int | None, ...]] = dict(known)
    for info in (*graph.input, *graph.output, *graph.value_info):
        sides = info.type.tensor_type.shape.dim
        found[info.name] = tuple(s.dim_value if s.HasField("dim_value") else None for s in sides)
    return found


def multiply_adds(node: onnx.NodeProto, sides: Shapes) -> int:
    """The multiply-adds of a convolution or matrix for one photograph: terms of each output, times the outputs."""
    weight, out = sides[node.input[1]], sides[node.output[0]]
    if node.op_type == "MatMul":
        terms = (weight[-2:][0], *out)
    else:
        # Every weight takes part once in each pixel of its channel; a matrix has one pixel.
        terms = (*weight, *(out[2:] if node.op_type == "Conv" else ()))
    return math.prod(side or 1 for side in terms)


def explainer_nodes(graph: onnx.GraphProto) -> set[str]:
    """First outputs of the nodes that the saliency is computed from."""
    maker = {name: node for node in graph.node for name in node.output}
    made: set[str] = set()
    todo = ["saliency"]
    while todo:
        node = maker.get(todo.pop())
        if node is not None and node.output[0] not in made:
            made.add(node.output[0])
            todo += node.input
    return made


def reading_int8(graph: onnx.GraphProto) -> set[str]:
    """The names of the nodes that read int8 values, through a cast or directly."""
    maker = {node.output[0]: node for node in graph.node}

    def made_of_int8(name: str) -> bool:
        node = maker.get(name)
        while node is not None and node.op_type == "Cast":
            node = maker.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    return {node.name for node in graph.node if node.op_type != "Cast" and all(map(made_of_int8, node.input[:2]))}
