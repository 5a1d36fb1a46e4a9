"""What half precision does on an engine that truly computes in it, found out on a CPU that does not.

ONNX Runtime's CPU kernels compute an fp16 graph in fp32 and drop the casts between: 300 * 300 / 300 comes out as
300 there and as infinity on a GPU (tried with 1.31). So the fp16 graph is rewritten here into an fp32 one that
rounds every result to 11 bits by itself and reports the largest value of each node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from medtex_edge.contract import INPUT_NAME, OUTPUT_NAMES

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
HALF_MAX = 65504.0
# The values of a photograph by another camera may be larger than those of the photographs at hand.
HEADROOM = 4.0
_SPLIT = np.float32(2**13 + 1)  # Veltkamp's constant for 24 - 13 = 11 bits
_PEAKS = "peaks"


@dataclass(frozen=True)
class Emulated:
    """An fp32 ONNX file that rounds like fp16, with one output more: `peaks`, the largest |value| by node."""

    content: bytes
    fallbacks: tuple[tuple[str, ...], ...]  # in the order of the peaks: the nodes for fp32 where one is too large


def emulate(content: bytes) -> Emulated:
    """Rewrite an fp16 graph. Subnormal values are kept finer than fp16 would: an error below 6e-8."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content), strict_mode=True)
    graph = model.graph
    half = {info.name for info in graph.value_info if info.type.tensor_type.elem_type == TensorProto.FLOAT16}
    constants = [_full(item) for item in graph.initializer]
    constants += [numpy_helper.from_array(np.array(v), k) for k, v in (("split", _SPLIT), ("flat", np.array([-1])))]
    nodes: list[onnx.NodeProto] = []
    fallbacks: list[tuple[str, ...]] = []
    for node in graph.node:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.append(copy)
        for attribute in copy.attribute:
            if copy.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        name = node.output[0]
        if name in half:
            copy.output[0] = f"{name}_raw"
            nodes += _rounded(f"{name}_raw", name)
            # A value that is too large for the cast into fp16 belongs to nodes that should not be in fp16.
            readers = tuple(reader.name for reader in graph.node if name in reader.input)
            fallbacks.append(readers if node.op_type == "Cast" else (node.name,))
    nodes.append(helper.make_node("Concat", [f"{n}_peak" for n in _outputs(graph, half)], [_PEAKS], axis=0))
    peaks = helper.make_tensor_value_info(_PEAKS, TensorProto.FLOAT, [None])
    emulated = helper.make_graph(nodes, "emulated", graph.input, [*graph.output, peaks], constants)
    rewritten = helper.make_model(emulated, opset_imports=model.opset_import, ir_version=model.ir_version)
    return Emulated(bytes(rewritten.SerializeToString()), tuple(fallbacks))


class EmulatedSession:
    """Runs an `Emulated` graph and remembers the largest |value| of each node over all images."""

    def __init__(self, emulated: Emulated) -> None:
        self._session = _session(emulated.content)
        self._fallbacks = emulated.fallbacks
        self._peaks = np.zeros(len(emulated.fallbacks), np.float32)

    def infer(self, images: Images) -> tuple[Floats, Floats]:
        """(N, H, W, 3) uint8 -> probabilities (N, C), saliency (N, h, w), both float32."""
        probabilities, saliency, peaks = self._session.run(None, {INPUT_NAME: np.ascontiguousarray(images)})
        # NaN counts as beyond every range, and must not be lost in a maximum.
        self._peaks = np.maximum(self._peaks, np.nan_to_num(peaks, nan=np.inf))
        return probabilities, saliency

    def peak(self) -> float:
        """The largest |value| that any half-precision node gave so far."""
        return float(self._peaks.max(initial=0.0))

    def overflowing(self) -> frozenset[str]:
        """The nodes to keep in fp32 because values came within `HEADROOM` of the end of half's range."""
        pairs = zip(self._fallbacks, self._peaks, strict=True)
        return frozenset(name for names, peak in pairs if peak > HALF_MAX / HEADROOM for name in names)


def literal(content: bytes) -> Callable[[Images], tuple[Floats, Floats]]:
    """A function images (N, H, W, 3) -> probabilities (N, C), saliency (N, h, w) that computes an int8 graph as it is
    written: eight bits where values are rounded, float32 between. The CPU's integer kernels take short cuts."""
    session = _session(content)

    def infer(images: Images) -> tuple[Floats, Floats]:
        probabilities, saliency = session.run(list(OUTPUT_NAMES), {INPUT_NAME: np.ascontiguousarray(images)})
        return probabilities, saliency

    return infer


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _outputs(graph: onnx.GraphProto, half: set[str]) -> list[str]:
    return [node.output[0] for node in graph.node if node.output[0] in half]


def _full(item: onnx.TensorProto) -> onnx.TensorProto:
    value = numpy_helper.to_array(item)
    return numpy_helper.from_array(value.astype(np.float32), item.name) if value.dtype == np.float16 else item


def _rounded(raw: str, name: str) -> list[onnx.NodeProto]:
    """raw -> name rounded to 11 bits (T. J. Dekker, Numerische Mathematik 18, 1971), and name_peak (1,)."""
    a, b = f"{name}_a", f"{name}_b"
    make = helper.make_node
    return [
        make("Mul", [raw, "split"], [a]),
        make("Sub", [a, raw], [b]),
        make("Sub", [a, b], [name]),
        make("Abs", [raw], [f"{name}_abs"]),
        make("ReduceMax", [f"{name}_abs"], [f"{name}_top"], keepdims=0),
        make("Reshape", [f"{name}_top", "flat"], [f"{name}_peak"]),
    ]
