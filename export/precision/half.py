"""Half precision written into the graph, so that every engine computes what was proved and none decides for itself.

Half precision is a rewrite of the checked fp32 graph rather than a second export: the batch normalisations are
already folded, in fp32, and what stays in fp32 is chosen node by node. TensorRT builds it strongly typed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from medtex_edge.contract import INPUT_NAME
from medtex_edge.export.arithmetic import MATRICES, explainer_nodes
from medtex_edge.export.onnx import plain, serialise

# Sums of exponentials and of squares overflow half precision long before their results do.
_KEEP = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
                   "Exp", "Log", "Pow", "ReduceL2", "ReduceSumSquare", "ReduceSum", "ReduceProd", "Range",
                   "ConstantOfShape", "RandomNormal", "RandomUniform"})  # fmt: skip
_FLOAT_BY_DEFINITION = {"Resize": (1, 2)}  # operator -> inputs that are float32 in any precision
_FRACTIONS = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
_HALF = np.finfo(np.float16)


def to_half(content: bytes, keep: frozenset[str] = frozenset()) -> bytes:
    """An fp32 ONNX file -> the same graph with its float part in fp16; inputs and outputs keep their types.

    In fp32 stay: what comes before the first convolution (normalisation), the last matrix with the softmax, the
    sigmoid of the saliency, operators whose sums overflow, nodes with weights beyond half's range, and the nodes
    named in `keep`.
    """
    model = onnx.load_from_string(content)
    _inline_constants(model.graph)
    _Halving(model.graph, keep).run()
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    plain(model)
    return serialise(model)


def rungs(content: bytes) -> Iterator[frozenset[str]]:
    """Sets of nodes to keep in fp32, from none to the whole student and half of the explainer: `_FRACTIONS` of the
    convolutions of the student, first ones first, and likewise of the explainer, of which at most half."""
    graph = onnx.load_from_string(content).graph
    made = explainer_nodes(graph)
    student = [node for node in graph.node if node.output[0] not in made]
    explainer = [node for node in graph.node if node.output[0] in made]
    for fraction in _FRACTIONS:
        yield _first(student, fraction) | _first(explainer, min(fraction, 0.5))


def _first(nodes: list[onnx.NodeProto], fraction: float) -> frozenset[str]:
    """The names of the nodes up to and with the first `fraction` of the matrices among them."""
    matrices = [index for index, node in enumerate(nodes) if node.op_type in MATRICES]
    kept = round(fraction * len(matrices))
    return frozenset(node.name for node in nodes[: matrices[kept - 1] + 1]) if kept else frozenset()


def half_share(content: bytes) -> float:
    """The fraction of convolutions and matrices whose weights are fp16."""
    graph = onnx.load_from_string(content).graph
    types = {item.name: item.data_type for item in graph.initializer}
    weights = [types.get(node.input[1]) for node in graph.node if node.op_type in MATRICES]
    return weights.count(TensorProto.FLOAT16) / max(len(weights), 1)


class _Halving:
    """One rewrite of one graph, in place."""

    def __init__(self, graph: onnx.GraphProto, keep: frozenset[str]) -> None:
        self.graph = graph
        self.constants = {item.name: item for item in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self.kept = {node.output[0] for node in graph.node if node.op_type in _KEEP or node.name in keep}
        self.kept |= {node.output[0] for node in graph.node if self._too_large(node)}
        self.kept |= set(self._before_first_matrix()) | set(self._heads())
        self._match_grids()
        self.floats = _float_tensors(graph)
        self.nodes: list[onnx.NodeProto] = []
        self.casts: dict[str, str] = {}  # tensor -> the same in the other precision

    def run(self) -> None:
        for node in self.graph.node:
            half = node.output[0] not in self.kept
            literal = _FLOAT_BY_DEFINITION.get(node.op_type, ())
            for index, name in enumerate(node.input):
                if name in self.floats and index not in literal:
                    node.input[index] = self._as(name, half)
            if half and node.op_type == "Cast":
                for attribute in node.attribute:
                    if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                        attribute.i = TensorProto.FLOAT16
            self.nodes.append(node)
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def _as(self, name: str, half: bool) -> str:
        """The name of tensor `name` in half or full precision; adds the cast, or the constant, once."""
        made_half = name in self.maker and self.maker[name].output[0] not in self.kept
        if made_half == half:
            return name
        if name not in self.casts:
            self.casts[name] = f"{name}_{'half' if half else 'full'}"
            if name in self.constants:
                value = numpy_helper.to_array(self.constants[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(value, self.casts[name]))
            else:
                to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
                self.nodes.append(
                    helper.make_node("Cast", [name], [self.casts[name]], f"cast_{self.casts[name]}", to=to)
                )
        return self.casts[name]

    def _before_first_matrix(self) -> Iterator[str]:
        first = next((node for node in self.graph.node if node.op_type in MATRICES), None)
        todo = [self.maker[name] for name in first.input if name in self.maker] if first else []
        while todo:
            node = todo.pop()
            yield node.output[0]
            todo += [self.maker[name] for name in node.input if name in self.maker]

    def _heads(self) -> Iterator[str]:
        """From each output back to the matrix before it; that one included where it is small: a fully connected one, or
        a convolution to one channel, whose logits near -8 half precision knows to 0.004 only."""
        todo = [output.name for output in self.graph.output]
        while todo:
            node = self.maker.get(todo.pop())
            if node is None or (node.op_type == "Conv" and not self._one_channel(node)):
                continue
            yield node.output[0]
            if node.op_type not in MATRICES:
                todo += node.input

    def _match_grids(self) -> None:
        """What reads int8 values is in the precision of the node that it reads for, what writes them in that of the
        node that it reads from: an engine takes the two for one only where no cast stands between."""
        for node in self.graph.node:
            name = node.output[0]
            if node.op_type == "DequantizeLinear":
                readers = {reader.output[0] for reader in self.graph.node if name in reader.input}
                self.kept = self.kept | {name} if self.kept.issuperset(readers) else self.kept - {name}
            elif node.op_type == "QuantizeLinear":
                full = node.input[0] in self.kept or node.input[0] not in self.maker
                self.kept = self.kept | {name} if full else self.kept - {name}

    def _one_channel(self, node: onnx.NodeProto) -> bool:
        weight = self.constants.get(node.input[1])
        return weight is not None and weight.dims[0] == 1

    def _too_large(self, node: onnx.NodeProto) -> bool:
        values = [numpy_helper.to_array(self.constants[name]) for name in node.input if name in self.constants]
        return any(v.dtype == np.float32 and v.size and np.abs(v).max() > _HALF.max for v in values)


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    found = {item.name for item in graph.initializer if item.data_type == TensorProto.FLOAT}
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            found.add(info.name)
    known = {info.name for info in (*graph.input, *graph.output, *graph.value_info)}
    unknown = [name for node in graph.node for name in node.output if name and name not in known]
    if unknown:
        raise AssertionError(f"{INPUT_NAME}: the graph has tensors of unknown type: {unknown[:3]}")
    return found


def _inline_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers, so that there is one kind of constant to convert."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if tensor is not None:
            copy = onnx.TensorProto.FromString(tensor.SerializeToString())
            copy.name = node.output[0]
            graph.initializer.append(copy)
            graph.node.remove(node)
