"""Int8 written into the graph: values are rounded where a layer reads them, weights are stored as int8.

Symmetric, weights by output channel, activations by tensor, biases left alone: what TensorRT fuses into integer
kernels. A pair of QuantizeLinear and DequantizeLinear (QDQ) stands at each place, so that every engine rounds there and
nowhere else. Sums (residuals, the decoder's) stay in the precision of the rest of the graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from medtex_edge.export.arithmetic import MATRICES, explainer_nodes, multiply_adds, reading_int8, shapes
from medtex_edge.export.onnx import plain, serialise

OPSET = 19  # the first whose QuantizeLinear takes half-precision values; read by TensorRT 10.3, ONNX Runtime 1.15
LEVELS = 127  # -127..127: symmetric, so that 0 is exact and no kernel meets -128 * -128
_TINY = float(np.finfo(np.float16).tiny)


@dataclass(frozen=True)
class Int8Layer:
    """A node that can compute in eight bits: a convolution, a matrix, or the product with the mask."""

    node: str
    name: str  # of its weight, for people
    part: str  # "explainer" or "student"
    kind: str  # "first", "depthwise", "pointwise", "convolution", "last", "head", "mask"
    inputs: tuple[str, ...]  # the activations to be rounded
    multiply_adds: int  # of one photograph; 0 for the product with the mask, which has none to gain


def layers(content: bytes) -> list[Int8Layer]:
    """The layers of an exported fp32 graph, in the order of the graph."""
    graph = onnx.load_from_string(content).graph
    sides = shapes(graph)
    constants = {item.name for item in graph.initializer}
    explainer = explainer_nodes(graph)
    resized = {n.output[0] for n in graph.node if n.op_type == "Resize" and n.input[0] in explainer} - explainer
    found: list[Int8Layer] = []
    for node in graph.node:
        part = "explainer" if node.output[0] in explainer else "student"
        if node.op_type in MATRICES and node.input[1] in constants and node.input[0] not in constants:
            first = not any(layer.part == part and layer.kind != "mask" for layer in found)
            weight, adds = sides[node.input[1]], multiply_adds(node, sides)
            name = node.input[1].removeprefix("model.").removesuffix(".weight")
            found.append(Int8Layer(node.name, name, part, _kind(node, weight, first), (node.input[0],), adds))
        elif node.op_type == "Mul" and part == "student" and resized.intersection(node.input):
            found.append(Int8Layer(node.name, "mask", part, "mask", tuple(node.input), 0))
    return found


def quantise(content: bytes, scales: Mapping[str, float], chosen: Collection[str]) -> bytes:
    """An fp32 ONNX file -> the same with QDQ before the nodes named in `chosen`; the rest of it stays in fp32.

    `scales`: activation -> the step of its grid, as `calibration.observe` finds it.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    rounding = _Rounding(graph, scales, frozenset(chosen))
    nodes = [made for node in graph.node for made in rounding.of(node)]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(rounding.constants)
    del graph.value_info[:]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    plain(model)
    return serialise(model)


def weight_scales(weight: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """The step of the grid of each channel along `axis`, one that fp16 holds exactly."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return np.array([half_up(top / LEVELS) for top in np.abs(weight).max(axis=others)], np.float32)


def half_up(scale: float) -> float:
    """The next number that fp16 holds in full, so that a grid is the same in either precision and cuts nothing off."""
    near = np.float16(max(scale, _TINY))
    # As Python's numbers: numpy would compare them in half precision.
    return float(near if float(near) >= scale else np.nextafter(near, np.float16(np.inf)))


class _Rounding:
    """The nodes and constants that one rewrite adds."""

    def __init__(self, graph: onnx.GraphProto, scales: Mapping[str, float], chosen: frozenset[str]) -> None:
        self.known = {item.name: item for item in graph.initializer}
        self.scales, self.chosen = scales, chosen
        self.constants: list[onnx.TensorProto] = []
        self.rounded: set[str] = set()  # activations and weights whose int8 values exist already

    def of(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node, after what rounds its inputs where it is chosen."""
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        if node.name in self.chosen:
            for index, name in enumerate(node.input[:2]):
                matrix = name in self.known
                yield from self._weight(node, name) if matrix else self._activation(name)
                # One for each reader: a shared one would tie together readers of different precisions.
                out = f"{node.name}_{index}"
                axis = {"axis": _axis(node)} if matrix else {}
                parts = [f"{name}_{part}" for part in ("int8", "scale", "zero")]
                yield helper.make_node("DequantizeLinear", parts, [out], f"read_{out}", **axis)
                copy.input[index] = out
        yield copy

    def _activation(self, name: str) -> Iterator[onnx.NodeProto]:
        if name not in self.rounded:
            self.rounded.add(name)
            self._grid(name, np.array(half_up(self.scales[name]), np.float32))
            parts = [name, f"{name}_scale", f"{name}_zero"]
            yield helper.make_node("QuantizeLinear", parts, [f"{name}_int8"], f"round_{name}")

    def _weight(self, node: onnx.NodeProto, name: str) -> Iterator[onnx.NodeProto]:
        if name not in self.rounded:
            self.rounded.add(name)
            value, axis = numpy_helper.to_array(self.known[name]), _axis(node)
            scale = weight_scales(value, axis)
            steps = value / scale.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
            integers = np.clip(np.rint(steps), -LEVELS, LEVELS).astype(np.int8)
            self.constants.append(numpy_helper.from_array(integers, f"{name}_int8"))
            self._grid(name, scale)
        return iter(())

    def _grid(self, name: str, scale: npt.NDArray[np.float32]) -> None:
        self.constants.append(numpy_helper.from_array(scale, f"{name}_scale"))
        self.constants.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{name}_zero"))


def _axis(node: onnx.NodeProto) -> int:
    """The weight's axis of output channels."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _kind(node: onnx.NodeProto, weight: tuple[int | None, ...], first: bool) -> str:
    if node.op_type != "Conv":
        return "last"
    if first:
        return "first"
    if weight[0] == 1:
        return "head"
    if next((a.i for a in node.attribute if a.name == "group"), 1) > 1:
        return "depthwise"
    return "pointwise" if set(weight[2:]) == {1} else "convolution"


def precisions(content: bytes, layers: Sequence[Int8Layer]) -> dict[str, str]:
    """Node of each of `layers` -> "int8", "fp16" or "fp32", as a finished graph computes it."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output)}
    rounded = reading_int8(graph)
    found = {}
    for node in graph.node:
        half = types.get(node.output[0]) == TensorProto.FLOAT16
        found[node.name] = "int8" if node.name in rounded else "fp16" if half else "fp32"
    return {layer.node: found[layer.node] for layer in layers}


def share(content: bytes) -> float:
    """The fraction of the multiply-adds of convolutions and matrices that are done in eight bits."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    sides, rounded = shapes(graph), reading_int8(graph)
    adds = {node.name: multiply_adds(node, sides) for node in graph.node if node.op_type in MATRICES}
    return sum(count for name, count in adds.items() if name in rounded) / max(sum(adds.values()), 1)
