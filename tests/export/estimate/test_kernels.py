"""The kernels of a graph: which operators are fused, what each computes and moves."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
import run_kit
import tensorrt_rtx as rtx
from export_kit import written
from onnx import numpy_helper

from medtex_edge.export.estimate.kernels import Kernel, kernels
from medtex_edge.export.estimate.latency import (
    estimate,
)
from medtex_edge.export.graph import cost
from medtex_edge.export.int8 import quantize
from medtex_edge.export.precision.half import to_half

HALF = "float16[N,8,16,16]"
PIXELS = 16 * 16
PLANE = 8 * PIXELS * 2  # bytes of a tensor of that shape
TWICE = np.array([1, 1, 2, 2], np.float32)


def only(content: bytes) -> Kernel:
    found = kernels(content)
    assert len(found) == 1, [kernel.name for kernel in found]
    return found[0]


# --- fusion ---------------------------------------------------------------------------------------------------


def test_a_convolution_takes_its_bias_its_residual_and_its_activation_along() -> None:
    found = only(written(
        f"({HALF} x, float16[N,16,16,16] r) => (float16[N,16,16,16] y)",
        "c = Conv<pads = [1,1,1,1]>(x, w, b)  s = Add(r, c)  y = Clip(s, low, high)",
        {"w": (16, 8, 3, 3), "b": (16,), "low": (), "high": ()},
    ))  # fmt: skip
    assert found.nodes == ("n0", "n1", "n2")
    assert (found.kind, found.precision, found.name) == ("convolution", "fp16", "w")
    assert found.multiply_adds == 16 * 8 * 9 * PIXELS
    assert found.weight_bytes == 2 * (16 * 8 * 9 + 16 + 1 + 1)
    assert (found.read_bytes, found.written_bytes) == (3 * PLANE, 2 * PLANE)
    assert found.moved_bytes == found.weight_bytes + 5 * PLANE


@pytest.mark.parametrize(
    "activation",
    ["y = Relu(c)", "s = Sigmoid(c) y = Mul(c, s)", "s = HardSigmoid(c) y = Mul(s, c)", "y = HardSwish(c)"],
)
def test_an_activation_that_reads_its_input_twice_is_one_too(activation: str) -> None:
    found = only(written(f"({HALF} x) => ({HALF} y)", f"c = Conv(x, w) {activation}", {"w": (8, 8, 1, 1)}))
    assert (found.read_bytes, found.written_bytes) == (PLANE, PLANE)


def test_a_second_sum_and_a_sum_of_other_shape_are_kernels_of_their_own() -> None:
    body = "c = Conv(x, w) s = Add(c, x) y = Add(s, r)"
    twice = kernels(written(f"({HALF} x, {HALF} r) => ({HALF} y)", body, {"w": (8, 8, 1, 1)}))
    assert [kernel.kind for kernel in twice] == ["convolution", "pointwise"]
    gate = "float16[N,8,1,1]"
    gated = kernels(written(f"({HALF} x, {gate} r) => ({HALF} y)", "c = Conv(x, w) y = Add(c, r)", {"w": (8, 8, 1, 1)}))
    assert [kernel.kind for kernel in gated] == ["convolution", "pointwise"]
    assert gated[1].read_bytes == PLANE + 8 * 2


def test_what_others_read_is_written_before_its_activation() -> None:
    body = "c = Conv(x, w) y = Relu(c) z = Conv(c, v)"
    found = kernels(written(f"({HALF} x) => ({HALF} y, {HALF} z)", body, {"w": (8, 8, 1, 1), "v": (8, 8, 1, 1)}))
    assert [kernel.kind for kernel in found] == ["convolution", "pointwise", "convolution"]
    output = kernels(written(f"({HALF} x) => ({HALF} c, {HALF} y)", "c = Conv(x, w) y = Relu(c)", {"w": (8, 8, 1, 1)}))
    assert [kernel.kind for kernel in output] == ["convolution", "pointwise"]


def test_a_sum_joins_the_convolution_whose_other_part_can_come_first() -> None:
    small = "float16[N,8,8,8]"
    found = kernels(written(
        f"({HALF} x, {small} deep) => ({HALF} y)", "c = Conv(x, w) u = Resize(deep, , scales) y = Add(c, u)",
        {"w": (8, 8, 1, 1), "scales": TWICE},
    ))  # fmt: skip
    assert [kernel.kind for kernel in found] == ["resize", "convolution"]  # in the order in which they can run
    # Where the other part comes out of the convolution itself, it cannot.
    pooled = "c = Conv(x, w) p = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(c) y = Add(c, p)"
    found = kernels(written(f"({HALF} x) => ({HALF} y)", pooled, {"w": (8, 8, 1, 1)}))
    assert [kernel.kind for kernel in found] == ["convolution", "pool", "pointwise"]


def test_pointwise_chains_are_one_kernel_and_resize_concat_softmax_one_each() -> None:
    found = kernels(written(
        f"({HALF} x) => (float16[N,8,32,32] y)",
        "t = Transpose<perm = [0,1,3,2]>(x) m = Mul(t, k) a = Add(m, k) b = Sigmoid(a) c = Concat<axis = 1>(b, x) "
        "d = Slice(c, zero, eight, one) e = Softmax<axis = 1>(d) y = Resize(e, , scales)",
        {"k": (), "scales": TWICE, **{name: np.array([i]) for name, i in (("zero", 0), ("eight", 8), ("one", 1))}},
    ))  # fmt: skip
    assert [kernel.kind for kernel in found] == ["pointwise", "concat", "slice", "softmax", "resize"]
    assert found[0].name == "Transpose Mul Add Sigmoid"
    assert found[1].read_bytes == found[1].written_bytes == 2 * PLANE
    assert sum(kernel.multiply_adds for kernel in found) == 0


def test_views_cost_nothing_and_casts_no_launch() -> None:
    found = kernels(written(
        "(float[N,8,16,16] x) => (float[N,2048] y)",
        "c = Conv(x, w) h = Cast<to = 10>(c) r = Relu(h) f = Cast<to = 1>(r) y = Flatten(f)",
        {"w": (8, 8, 1, 1)}, "float32",
    ))  # fmt: skip
    assert [kernel.nodes for kernel in found] == [("n0", "n1", "n2", "n3")]
    shared = kernels(written(
        f"(float[N,8,16,16] x) => ({HALF} y, {HALF} z)",
        "h = Cast<to = 10>(x) y = Conv(h, w) z = Conv(h, v)", {"w": (8, 8, 1, 1), "v": (8, 8, 1, 1)},
    ))  # fmt: skip
    assert [kernel.read_bytes for kernel in shared] == [2 * PLANE] * 2  # each reads what is there: fp32


def test_many_residual_sums_are_fused_in_no_time() -> None:
    count = 60  # two paths through each: 2 ** 60 in all
    body = " ".join(f"c{i} = Conv(s{i}, w) s{i + 1} = Add(c{i}, s{i})" for i in range(count))
    found = kernels(written(f"({HALF} s0) => ({HALF} s{count})", body, {"w": (8, 8, 1, 1)}))
    assert [kernel.kind for kernel in found] == ["convolution"] * count


def test_arithmetic_on_constants_is_done_when_the_engine_is_built() -> None:
    body = "k = Exp(scale) v = Mul(w, k) y = Conv(x, v)"
    found = only(written(f"({HALF} x) => ({HALF} y)", body, {"w": (8, 8, 1, 1), "scale": ()}))
    assert found.nodes == ("n2",)
    assert found.weight_bytes == 2 * (64 + 1)


# --- eight bits -----------------------------------------------------------------------------------------------

QUANTISED = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(w, s, z) "


def quantised(body: str, output: str) -> bytes:
    model = onnx.load_from_string(written(f"({HALF} x) => ({output})", QUANTISED + body, {"s": ()}))
    model.opset_import[0].version = 19
    for name, shape in {"w": (16, 8, 3, 3), "z": ()}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.int8), name))
    return bytes(model.SerializeToString())


def test_an_int8_convolution_reads_one_byte_a_value_and_writes_what_its_readers_read() -> None:
    first, conv = kernels(quantised("c = Conv<pads = [1,1,1,1]>(d, e) y = Relu(c)", "float16[N,16,16,16] y"))
    assert (first.kind, first.read_bytes, first.written_bytes) == ("quantise", PLANE, PLANE // 2)
    assert (conv.kind, conv.precision, conv.name) == ("convolution", "int8", "w")
    assert conv.multiply_adds == 16 * 8 * 9 * PIXELS
    assert conv.weight_bytes == 16 * 8 * 9 + 2 + 1  # with the step and the zero of its grid
    assert (conv.read_bytes, conv.written_bytes) == (PLANE // 2, 2 * PLANE)


def test_rounding_is_part_of_a_convolution_in_int8_and_a_kernel_behind_another() -> None:
    after = "c = Conv<pads = [1,1,1,1]>(d, e) a = Relu(c) b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z)"
    found = kernels(quantised(after, "float16[N,16,16,16] y"))
    assert [kernel.kind for kernel in found] == ["quantise", "convolution"]
    assert found[1].written_bytes == PLANE  # 16 channels of one byte
    half = "c = Conv(x, v) q = QuantizeLinear(c, s, z) y = DequantizeLinear(q, s, z)"
    model = onnx.load_from_string(written(f"({HALF} x) => ({HALF} y)", half, {"v": (8, 8, 1, 1), "s": ()}))
    model.opset_import[0].version = 19
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "z"))
    assert [kernel.kind for kernel in kernels(model.SerializeToString())] == ["convolution", "quantise"]


def test_the_graph_in_eight_bits_has_weights_of_one_byte_and_the_multiply_adds_of_the_first(
    full: bytes, int8_graph: bytes
) -> None:
    before, after = kernels(full), kernels(int8_graph)
    share = sum(kernel.multiply_adds for kernel in after if kernel.precision == "int8")
    total = sum(kernel.multiply_adds for kernel in after)
    assert share / total == pytest.approx(quantize.share(int8_graph))
    assert share > 0.9 * total
    assert total == sum(kernel.multiply_adds for kernel in before)
    named = {kernel.name: kernel for kernel in after if kernel.precision == "int8"}
    for kernel in before:
        if kernel.name in named:
            assert named[kernel.name].weight_bytes < 0.6 * kernel.weight_bytes
            assert named[kernel.name].multiply_adds == kernel.multiply_adds


# --- a real graph ---------------------------------------------------------------------------------------------


def test_multiply_adds_are_those_that_pytorch_counts_in_each_part(full: bytes) -> None:
    counted = cost(run_kit.model())
    parts = estimate(full)["parts"]
    assert parts["student"]["multiply_adds"] == counted.student_multiply_adds
    assert parts["explainer"]["multiply_adds"] == counted.explainer_multiply_adds
    assert parts["rest"]["multiply_adds"] == 0
    adds = {layer.name: layer.multiply_adds for layer in quantize.layers(full) if layer.multiply_adds}
    assert adds == {kernel.name: kernel.multiply_adds for kernel in kernels(full) if kernel.multiply_adds}


def test_tokens_are_counted_by_their_number() -> None:
    content = written("(float16[N,49,32] x) => (float16[N,49,64] y)", "y = MatMul(x, w)", {"w": (32, 64)})
    assert only(content).multiply_adds == 49 * 32 * 64


def test_parts_are_the_student_the_explainer_and_what_stands_before_and_between(full: bytes) -> None:
    found = kernels(full)
    assert found[0].part == "rest"
    assert {k.part for k in found if k.name.startswith("explainer.")} == {"explainer"}
    assert {k.part for k in found if k.name.startswith("student.")} == {"student"}
    assert [k.name for k in found[1:] if k.part == "rest"] == ["Resize", "AveragePool", "Resize", "Sub Mul Add"]
    assert found[-1].part == "student"


class ListLogger(rtx.ILogger):  # type: ignore[misc]
    """Keeps the messages of the builder."""

    def __init__(self) -> None:
        rtx.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, _: Any, message: str) -> None:
        self.lines += message.splitlines()


def test_launches_are_as_many_as_a_real_builder_makes_of_the_graph(full: bytes) -> None:
    model = onnx.load_from_string(to_half(full))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    log = ListLogger()
    builder = rtx.Builder(log)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log)
    assert parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.profiling_verbosity = rtx.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(rtx.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None
    layers = [line for line in log.lines if re.match(r"Name: .*, LayerType: (?!signal|wait)", line)]
    assert len(layers) > 20
    assert len(kernels(to_half(full))) == pytest.approx(len(layers), abs=3)
