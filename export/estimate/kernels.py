"""The kernels that an engine would launch for an exported graph, and what each of them computes and moves.

The real kernels are known only where an engine was built. These rules are those that NVIDIA documents for TensorRT
("Layer Fusion Catalog", "Working with Quantized Types"). A convolution or matrix includes its bias, the pointwise
operators after it and one residual sum. A chain of pointwise operators becomes one kernel; casts and views become none.
A QuantizeLinear is part of a convolution that computes in int8, and a kernel of its own behind one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from medtex_edge.errors import BundleError
from medtex_edge.export.arithmetic import MATRICES, multiply_adds, reading_int8, shapes
from medtex_edge.runtime.backend.graph_parts import EXPLAINER, REST, STUDENT, parts

PARTS = (STUDENT, EXPLAINER, REST)
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "DequantizeLinear"})
_VIEWS_OF_ALL = frozenset({"Gather", "Slice", "Expand"})  # where they give as many values as they read
_POINTWISE = frozenset({"Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
                        "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "PRelu", "Pow", "QuantizeLinear", "Reciprocal",
                        "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh", "Transpose", "Where"})  # fmt: skip
_KINDS = {"ReduceMean": "pool", "GlobalAveragePool": "pool", "AveragePool": "pool", "MaxPool": "pool",
          "QuantizeLinear": "quantise"}  # fmt: skip
_COMPUTED = ("convolution", "depthwise", "matrix")  # the kinds that have multiply-adds
_NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}


@dataclass(frozen=True)
class Kernel:
    """One launch, for one photograph."""

    name: str  # of its weight, for people, or its operators
    nodes: tuple[str, ...]  # of the ONNX graph, without views
    kind: str  # "convolution", "depthwise", "matrix", "pointwise", "quantise", "pool", or the operator in lower case
    part: str  # of `PARTS`
    precision: str  # that it computes in: "fp32", "fp16" or "int8"
    multiply_adds: int  # of convolutions and matrices; anything else is counted by its bytes alone
    weight_bytes: int
    read_bytes: int  # of activations
    written_bytes: int

    @property
    def moved_bytes(self) -> int:
        """Weights and activations, each once: what a cache holds or fetches again is left to `estimate`."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


def kernels(content: bytes) -> list[Kernel]:
    """The kernels of an ONNX file in the order of their launches. Raises `BundleError` for what is no such file."""
    from google.protobuf.message import DecodeError  # what onnx raises, and brings

    try:
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    except (DecodeError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"expected an ONNX graph, got: {str(error).splitlines()[0][:200]}") from error
    fusing = _Fusing(graph, parts(content))
    return [fusing.kernel(group) for group in fusing.groups()]


@dataclass(eq=False)
class _Group:
    """The nodes of one kernel so far."""

    kind: str
    nodes: list[onnx.NodeProto]
    int8: bool = False
    summed: bool = False  # has its residual sum
    needs: list[_Group] = field(default_factory=list)

    @property
    def out(self) -> str:
        return str(self.nodes[-1].output[0])

    def after(self, other: _Group) -> bool:
        """Whether it cannot begin before `other` is done."""
        visited: set[int] = set()
        todo = list(self.needs)
        while todo:
            one = todo.pop()
            if one is other:
                return True
            if id(one) not in visited:  # or the paths through residual sums double with each of them
                visited.add(id(one))
                todo += one.needs
        return False


class _Fusing:
    """One pass over a graph."""

    def __init__(self, graph: onnx.GraphProto, named: dict[str, str]) -> None:
        self.graph = graph
        self.parts = named  # of each node's outputs; none where it is no model of ours
        self.sides = shapes(graph)
        infos = (*graph.input, *graph.output, *graph.value_info)
        self.types = {info.name: info.type.tensor_type.elem_type for info in infos}
        self.constants = {i.name: math.prod(i.dims) * _width(i.data_type) for i in graph.initializer}  # -> bytes
        self.outputs = {info.name for info in graph.output}
        self.quantised = reading_int8(graph)
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.source: dict[str, str] = {}  # a view -> what it is a view of
        self.writer: dict[str, _Group] = {}

    def groups(self) -> list[_Group]:
        """One for each kernel; a kernel is launched where its last node stands."""
        found: list[_Group] = []
        place = {node.output[0]: index for index, node in enumerate(self.graph.node)}
        for node in self.graph.node:
            if all(name in self.constants or not name for name in node.input):
                # Folded when the engine is built; a weight keeps the bytes that it is stored with.
                stored = sum(self.constants[name] for name in node.input if name)
                self.constants |= dict.fromkeys(node.output, stored)
                if node.input:
                    self.source[node.output[0]] = self._root(node.input[0])  # for its name
            elif self._is_view(node):
                self.source[node.output[0]] = self._root(node.input[0])
            elif (group := self._absorbing_kernel(node)) is not None:
                group.summed |= len(self._outside(node, group)) > 0
                self._add(node, group)
            elif node.op_type == "Cast" and node.output[0] not in self.outputs:
                self.source[node.output[0]] = self._root(node.input[0])  # whoever reads it casts while reading
            else:
                found.append(_Group(self._kind(node), [], node.name in self.quantised))
                self._add(node, found[-1])
        return sorted(found, key=lambda group: place[group.out])

    def kernel(self, group: _Group) -> Kernel:
        """What a finished group computes and moves."""
        used = dict.fromkeys(name for node in group.nodes for name in node.input if name)
        weights = [name for name in used if name in self.constants]
        read = {self._root(name) for name in used if name not in self.constants}
        first = group.nodes[0]
        computed = group.kind in _COMPUTED
        return Kernel(
            name=_name(group, self._root(first.input[1]) if computed else ""),
            nodes=tuple(node.name for node in group.nodes),
            kind=group.kind,
            part=self.parts.get(first.output[0], STUDENT),
            precision="int8" if group.int8 else _NAMES.get(self.types.get(first.output[0], 0), "fp32"),
            multiply_adds=self._multiply_adds(first) if computed else 0,
            weight_bytes=sum(self.constants[name] for name in weights),
            read_bytes=sum(self._bytes(root) for root in read if self.writer.get(root) is not group),
            written_bytes=self._bytes(group.out),
        )

    def _add(self, node: onnx.NodeProto, group: _Group) -> None:
        group.needs += self._others(node, group)
        group.nodes.append(node)
        self.writer |= dict.fromkeys(node.output, group)

    def _absorbing_kernel(self, node: onnx.NodeProto) -> _Group | None:
        """The kernel that takes `node` along, convolutions and matrices before others, the later before the earlier."""
        if node.op_type not in _POINTWISE:
            return None
        made = [self.writer[root] for root in self._reads(node) if root in self.writer]
        made = [group for group in made if self._takes(group, node)]
        return max(made, key=lambda group: (group.kind in _COMPUTED, len(group.needs)), default=None)

    def _takes(self, group: _Group, node: onnx.NodeProto) -> bool:
        """Whether `node` can be computed on the values that `group` has at hand, before anything is written."""
        if group.out not in self._reads(node) or not self._alone(group.out, node):
            return False
        others = self._others(node, group)
        if any(other.after(group) for other in others):
            return False
        if node.op_type == "Cast":
            return True
        if group.kind in _COMPUTED:
            if node.op_type == "QuantizeLinear":
                return group.int8
            read = self._outside(node, group)
            residual = node.op_type == "Add" and len(read) == 1 and not group.summed
            return not read or (residual and self._sides(read[0]) == self._sides(group.out))
        return group.kind == "pointwise"

    def _alone(self, tensor: str, node: onnx.NodeProto) -> bool:
        """Whether no other node needs `tensor` in memory; x * sigmoid(x) and its like read it twice."""
        inside = {node.name} | {
            reader.name for reader in self._readers_of(node.output[0]) if reader.op_type in _POINTWISE
        }
        readers = list(self._readers_of(tensor))
        return tensor not in self.outputs and all(reader.name in inside for reader in readers)

    def _readers_of(self, tensor: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read `tensor`, through views; a view that is an output of the graph counts as a reader."""
        for node in self.readers.get(tensor, []):
            if self._is_view(node) and node.output[0] not in self.outputs:
                yield from self._readers_of(node.output[0])
            else:
                yield node

    def _is_view(self, node: onnx.NodeProto) -> bool:
        if node.op_type in _VIEWS_OF_ALL:
            return math.prod(self._sides(node.output[0])) == math.prod(self._sides(node.input[0]))
        return node.output[0] in self.source or node.op_type in _VIEWS

    def _reads(self, node: onnx.NodeProto) -> list[str]:
        """The tensors that it reads, without constants and behind views."""
        return list(dict.fromkeys(self._root(name) for name in node.input if name and name not in self.constants))

    def _outside(self, node: onnx.NodeProto, group: _Group) -> list[str]:
        """What it reads of what `group` does not make."""
        return [root for root in self._reads(node) if self.writer.get(root) is not group]

    def _others(self, node: onnx.NodeProto, group: _Group) -> list[_Group]:
        return [self.writer[root] for root in self._outside(node, group) if root in self.writer]

    def _root(self, name: str) -> str:
        return self.source.get(name, name)

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type not in MATRICES:
            return _KINDS.get(node.op_type, "pointwise" if node.op_type in _POINTWISE else node.op_type.lower())
        grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
        if grouped and self._sides(node.input[1])[1] == 1:
            return "depthwise"
        return "convolution" if node.op_type == "Conv" else "matrix"

    def _multiply_adds(self, node: onnx.NodeProto) -> int:
        # Before the sum, so that a missing shape is our error.
        self._sides(node.input[1])
        self._sides(node.output[0])
        return multiply_adds(node, self.sides)

    def _bytes(self, name: str) -> int:
        return math.prod(self._sides(name)) * _width(self.types.get(name, TensorProto.FLOAT))

    def _sides(self, name: str) -> tuple[int, ...]:
        """Of one photograph: 1 where a side depends on the batch."""
        if name not in self.sides:
            raise BundleError(f"expected a graph whose shapes are known, got none of {name[:80]!r}")
        return tuple(side or 1 for side in self.sides[name])


def _name(group: _Group, weight: str) -> str:
    for ending in ("_half", "_full", "_int8", ".weight"):
        weight = weight.removesuffix(ending)
    return weight.removeprefix("model.") or " ".join(node.op_type for node in group.nodes)


def _width(kind: int) -> int:
    """Bytes of one value."""
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)
