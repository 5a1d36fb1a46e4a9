"""Which nodes of an exported graph belong to the explainer and which to the student, by the names of their weights.

Read from the ONNX file itself, without its library, which devices do not have. A file is a tree of fields, each with
its number (Protocol Buffers, "Encoding"; the numbers are those of onnx.proto); fields that are not needed are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from medtex_edge.errors import BundleError

EXPLAINER, STUDENT, REST = "explainer", "student", "rest"
_WEIGHTS = {EXPLAINER: "model.explainer.", STUDENT: "model.student."}
_GRAPH = 7  # of ModelProto
_NODE = 1  # of GraphProto
_INPUT, _OUTPUT, _NAME = 1, 2, 3  # of NodeProto
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class Node(NamedTuple):
    """One node: its name, the tensors that it reads and the tensors that it writes."""

    name: str
    inputs: list[str]
    outputs: list[str]


def parts(model: bytes) -> dict[str, str]:
    """Name of each node, and of each of its outputs -> "explainer", "student" or "rest".

    The explainer reaches from its first weight to the saliency, the student from its first weight to the end; the rest
    is the arithmetic on pixels and mask. {} where no weight bears such a name. Raises `BundleError` where `model`
    is no ONNX file.
    """
    known = nodes(model)
    weights = {name: part for node in known for name in node.inputs for part in (_part_of_weight(name),) if part}
    if not weights:
        return {}
    mapped = _makers("saliency", known)
    behind: dict[str, set[str]] = {}  # value -> the parts whose weights it was computed with
    found: dict[str, str] = {}
    for node in known:
        with_weights = {weights[name] for name in node.inputs if name in weights}
        reached = with_weights.union(*(behind.get(name, ()) for name in node.inputs))
        behind.update(dict.fromkeys(node.outputs, reached))
        if STUDENT in reached:
            part = STUDENT
        elif EXPLAINER in reached and mapped.intersection(node.outputs):
            part = EXPLAINER
        else:
            part = REST
        found.update(dict.fromkeys((node.name, *node.outputs), part))
    return found


def nodes(model: bytes) -> list[Node]:
    """The graph's nodes in their order. Raises `BundleError`."""
    try:
        graphs = [value for number, value in _fields(memoryview(model)) if number == _GRAPH]
        return [_node(value) for graph in graphs for number, value in _fields(graph) if number == _NODE]
    except (IndexError, ValueError) as error:
        raise BundleError("the graph is no ONNX file that can be read") from error


def _node(content: memoryview) -> Node:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [""]}
    for number, value in _fields(content):
        if number in texts:
            texts[number].append(str(value, "utf-8"))
    return Node(texts[_NAME][-1], texts[_INPUT], texts[_OUTPUT])


def _part_of_weight(name: str) -> str | None:
    return next((part for part, beginning in _WEIGHTS.items() if name.startswith(beginning)), None)


def _makers(name: str, known: list[Node]) -> set[str]:
    """Every value that `name` is computed from, and itself."""
    wanted = {name}
    for node in reversed(known):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
    return wanted


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, bytes) of the fields that are bytes. Raises `ValueError` or `IndexError` for what is no such tree."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind in (_FIXED_32, _FIXED_64):
            at += 4 if kind == _FIXED_32 else 8
        elif kind == _BYTES:
            length, at = _varint(content, at)
            if at + length > len(content):
                raise ValueError("a field reaches beyond the end")
            yield key >> 3, content[at : at + length]
            at += length
        else:
            raise ValueError(f"no field begins with {kind}")


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
