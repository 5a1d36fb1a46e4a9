"""The fp16 graph, and the emulation of half precision on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from export_kit import spoiled
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.export.precision import half as precision
from medtex_edge.export.precision import rounding


def test_half_precision_halves_the_file_and_keeps_inputs_and_outputs(full: bytes) -> None:
    half = precision.to_half(full)
    assert len(half) < 0.6 * len(full)
    assert precision.half_share(full) == 0
    assert precision.half_share(half) > 0.9
    model = onnx.load_from_string(half)
    assert [i.type.tensor_type.elem_type for i in model.graph.input] == [TensorProto.UINT8]
    assert [o.type.tensor_type.elem_type for o in model.graph.output] == [TensorProto.FLOAT] * 2
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type in ("Softmax", "Gemm"):
            assert types.get(node.input[0]) == TensorProto.FLOAT, f"{node.op_type} belongs in fp32"


def test_nodes_can_be_kept_in_full_precision_by_name(full: bytes) -> None:
    convolutions = [node.name for node in onnx.load_from_string(full).graph.node if node.op_type == "Conv"]
    shares = [
        precision.half_share(precision.to_half(full, frozenset(convolutions[:n]))) for n in (0, 5, len(convolutions))
    ]
    assert shares[0] > shares[1] > shares[2] == 0


def test_weights_beyond_halfs_range_stay_in_full_precision(full: bytes) -> None:
    def enlarge(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        weight.flat[0] = 1e6
        return weight

    changed = precision.to_half(spoiled(full, r"conv_head\.weight|conv_pw\.weight", enlarge))
    assert precision.half_share(changed) < precision.half_share(precision.to_half(full))
    for item in onnx.load_from_string(changed).graph.initializer:
        assert np.isfinite(numpy_helper.to_array(item).astype(np.float64)).all()


def chain(first: float, second: float) -> bytes:
    """image -> float -> * first -> * second -> both outputs; the middle in fp16."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["x", "first"], ["y"], "up"),
        helper.make_node("Mul", ["y", "second"], ["z"], "down"),
        helper.make_node("Cast", ["z"], ["probabilities"], "out", to=TensorProto.FLOAT),
        helper.make_node("Identity", ["probabilities"], ["saliency"], "same"),
    ]
    shape = ["N", 4]
    made = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("probabilities", "saliency")],
        [numpy_helper.from_array(np.array(v, np.float16), k) for k, v in (("first", first), ("second", second))],
    )  # fmt: skip
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())


@settings(max_examples=30, deadline=None)
@given(first=st.floats(0.0625, 50, width=16), second=st.floats(0.0625, 0.5, width=16))
def test_the_emulation_rounds_as_half_precision_does(first: float, second: float) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(64, 4)
    actual, _ = rounding.EmulatedSession(rounding.emulate(chain(first, second))).infer(image)
    expected = image.astype(np.float16) * np.float16(first) * np.float16(second)
    normal = np.abs(expected) >= 6.2e-5  # below, half precision is coarser than what it is emulated by
    np.testing.assert_array_equal(actual[normal], expected.astype(np.float32)[normal])


def test_the_emulation_sees_the_overflow_that_onnx_runtime_hides() -> None:
    content = chain(400, 1 / 400)
    image = np.full((1, 4), 255, np.uint8)
    import onnxruntime as engine

    hidden = engine.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
    assert np.isfinite(hidden).all()
    session = rounding.EmulatedSession(rounding.emulate(content))
    session.infer(image)
    assert session.overflowing() == {"up"}
    assert session.peak() == 255 * 400


def test_nodes_that_would_overflow_are_lifted_to_full_precision(
    full: bytes, run: Path, tmp_path: Path, quick: Callable[[bytes | None], None]
) -> None:
    # An up and a down of fifty thousand between two convolutions change nothing in fp32, and everything in fp16.
    model = onnx.load_from_string(full)
    by_index = [(i, node) for i, node in enumerate(model.graph.node) if node.op_type == "Conv"]
    index, node = by_index[3]
    for name, value in (("huge", 5e4), ("tiny", 2e-5)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    source = node.input[0]
    shape = next(i for i in model.graph.value_info if i.name == source)
    for name in ("raised", "lowered"):
        copy = onnx.ValueInfoProto.FromString(shape.SerializeToString())
        copy.name = name
        model.graph.value_info.append(copy)
    node.input[0] = "lowered"
    model.graph.node.insert(index, helper.make_node("Mul", ["raised", "tiny"], ["lowered"], "lower"))
    model.graph.node.insert(index, helper.make_node("Mul", [source, "huge"], ["raised"], "raise"))
    quick(bytes(model.SerializeToString()))
    path = tmp_path / "toy.medtex"
    assert main(["export", str(run), "--fp16", "--out", str(path)]) == 0
    report = Bundle.open(path).report["precisions"]["fp16"]
    assert {"raise", "lower"} <= set(report["kept_in_fp32"])
    assert report["largest_value"] < rounding.HALF_MAX / rounding.HEADROOM
