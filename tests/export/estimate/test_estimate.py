"""What an engine would launch, counted by hand on small graphs; and the arithmetic that makes milliseconds of it."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import run_kit
import tensorrt_rtx as rtx
from bundle_kit import write_toy
from bundles import graph as tiny
from import_kit import HEAVY, loaded_by
from onnx import numpy_helper

from medtex_edge.cli import main
from medtex_edge.commands import estimate as command
from medtex_edge.errors import BundleError, SettingsError
from medtex_edge.export.estimate.kernels import Kernel, kernels
from medtex_edge.export.estimate.latency import (
    BOARDS,
    DEFAULT,
    ERROR,
    ERROR_FP32,
    REACHED,
    BoardModel,
    Reached,
    estimate,
    timed,
)
from medtex_edge.export.graph import Deployed, cost
from medtex_edge.export.int8 import quantize
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.precision.half import to_half

HALF = "float16[N,8,16,16]"
PIXELS = 16 * 16
PLANE = 8 * PIXELS * 2  # bytes of a tensor of that shape
TWICE = np.array([1, 1, 2, 2], np.float32)


def written(signature: str, body: str, weights: dict[str, Any] | None = None, kind: str = "float16") -> bytes:
    """An ONNX file of a signature and nodes in ONNX's own notation; weights are name -> shape, or values."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g {signature} {{ {body} }}')
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    for name, what in (weights or {}).items():
        value = what if isinstance(what, np.ndarray) else np.ones(what, np.dtype(kind))
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return bytes(model.SerializeToString())


def only(content: bytes) -> Kernel:
    found = kernels(content)
    assert len(found) == 1, [kernel.name for kernel in found]
    return found[0]


@pytest.fixture(scope="module")
def full() -> bytes:
    model = run_kit.model()
    return to_onnx(Deployed(model), model.size)


@pytest.fixture(scope="module")
def eight(full: bytes) -> bytes:
    scales: dict[str, float] = defaultdict(lambda: 0.1)
    nodes = {layer.node for layer in quantize.layers(full) if layer.kind != "mask"}
    return to_half(quantize.quantise(full, scales, nodes))


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
    count = 60  # two ways through each: 2 ** 60 in all
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
    full: bytes, eight: bytes
) -> None:
    before, after = kernels(full), kernels(eight)
    share = sum(kernel.multiply_adds for kernel in after if kernel.precision == "int8")
    total = sum(kernel.multiply_adds for kernel in after)
    assert share / total == pytest.approx(quantize.share(eight))
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


class Told(rtx.ILogger):  # type: ignore[misc]
    """Keeps what the builder says."""

    def __init__(self) -> None:
        rtx.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, _: Any, message: str) -> None:
        self.lines += message.splitlines()


def test_launches_are_as_many_as_a_real_builder_makes_of_the_graph(full: bytes) -> None:
    model = onnx.load_from_string(to_half(full))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    log = Told()
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


# --- arithmetic -----------------------------------------------------------------------------------------------

PLAIN = BoardModel("of round numbers", multiprocessors=10, gpu_mhz=1000, bandwidth_gbs=100)
HALVES = Reached(dense=0.5, depthwise=0.1, bandwidth=0.5, launch_clocks=5000)
KERNEL = Kernel("k", ("n",), "convolution", "student", "fp16", 0, 0, 0, 0)


def test_a_kernel_takes_the_longer_of_arithmetic_and_bytes_and_its_launch() -> None:
    assert timed(KERNEL, PLAIN, HALVES).seconds == pytest.approx(5e-6)
    assert timed(KERNEL, replace(PLAIN, gpu_mhz=500), HALVES).seconds == pytest.approx(10e-6)
    busy = replace(KERNEL, multiply_adds=51_200_000, weight_bytes=10_000, read_bytes=20_000, written_bytes=20_000)
    found = timed(busy, PLAIN, HALVES)  # 51.2 M at half of 10 x 1 GHz x 1024; 50 kB at half of 100 GB/s
    assert found.arithmetic_s == pytest.approx(10e-6)
    assert found.bytes_s == pytest.approx(1e-6)
    assert (found.seconds, found.limit) == (pytest.approx(15e-6), "arithmetic")
    assert timed(replace(busy, precision="int8"), PLAIN, HALVES).arithmetic_s == pytest.approx(5e-6)
    assert timed(replace(busy, precision="fp32"), PLAIN, HALVES).arithmetic_s == pytest.approx(80e-6)
    depthwise = timed(replace(busy, kind="depthwise"), PLAIN, HALVES)
    assert depthwise.arithmetic_s == pytest.approx(400e-6)  # at a tenth of the CUDA cores, in any precision
    moving = timed(replace(busy, written_bytes=970_000), PLAIN, HALVES)
    assert (moving.seconds, moving.limit) == (pytest.approx(25e-6), "bytes")
    more = timed(moving.kernel, PLAIN, HALVES, batch=2)  # weights are read once
    assert more.bytes_s == pytest.approx((10_000 + 2 * 990_000) / 50e9)


def test_boards_have_the_published_throughput() -> None:
    """Trillions of sparse int8 operations a second, of the GPU alone: twice the dense ones, two for a multiply-add."""
    published = {"orin-nano": 67, "orin-nano-15w": 40, "orin-nx": 60, "agx-orin": 170}
    for name, tops in published.items():
        assert 4 * BOARDS[name].multiply_adds_per_s(2048) / 1e12 == pytest.approx(tops, rel=0.03)
    assert tuple(BOARDS) == command.BOARDS
    assert command.BOARDS[0] == DEFAULT


def test_sums_are_those_of_the_table(full: bytes) -> None:
    found = estimate(to_half(full))
    rows = found["kernels"]
    assert found["launches"] == len(rows)
    assert found["bytes"] == sum(row["weight_bytes"] + row["read_bytes"] + row["written_bytes"] for row in rows)
    assert found["ms"]["middle"] == pytest.approx(sum(row["us"] for row in rows) / 1e3, abs=0.001)
    for group, column in (("parts", "part"), ("kinds", "kind")):
        for name, sums in found[group].items():
            assert sums["launches"] == sum(row[column] == name for row in rows)
        for name in ("launches", "multiply_adds", "bytes"):
            assert sum(sums[name] for sums in found[group].values()) == found[name]
        assert sum(sums["ms"] for sums in found[group].values()) == pytest.approx(found["ms"]["middle"], abs=0.005)
    assert sum(found["spent_ms"].values()) == pytest.approx(found["ms"]["middle"], abs=0.003)
    assert next(iter(found["kinds"])) == max(found["kinds"], key=lambda kind: found["kinds"][kind]["ms"])


def test_the_range_is_that_of_the_fits_error_and_wider_in_fp32(full: bytes) -> None:
    for content, error in ((full, ERROR_FP32), (to_half(full), ERROR)):
        ms = estimate(content)["ms"]
        assert ms["low"] == pytest.approx(ms["middle"] / (1 + error), abs=0.001)
        assert ms["high"] == pytest.approx(ms["middle"] / (1 - error), abs=0.001)


def test_an_estimate_says_that_it_is_one_and_what_it_assumes(full: bytes) -> None:
    found = estimate(full, "orin-nano-15w")
    assert "not a measurement" in found["note"]
    assert found["board"] == "Jetson Orin Nano 8 GB, 15 W"
    assert found["assumed"]["gpu_mhz"] == 625
    assert found["assumed"]["launch_clocks"] == REACHED.launch_clocks
    assert found["ms"]["middle"] > estimate(full)["ms"]["middle"]


def test_what_is_no_graph_or_no_board_is_refused(full: bytes) -> None:
    with pytest.raises(BundleError, match="expected an ONNX graph"):
        kernels(b"not a graph, but some bytes")
    with pytest.raises(SettingsError, match="orin-nano-15w"):
        estimate(full, "tx2")
    unknown = written("(float16[N,8] x) => (float16[N,k] y)", "m = Mystery(x) y = Relu(m)")
    with pytest.raises(BundleError, match="shapes are known"):
        kernels(unknown)


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(full: bytes, tmp_path: Path) -> Path:
    half = to_half(full)
    report = {"precisions": {"fp16": {"estimate": estimate(half)}}}
    return write_toy(tmp_path / "x.medtex", models={"fp32": full, "fp16": half}, report=report)


def test_the_command_shows_each_kernel_the_sums_and_that_nothing_was_measured(
    bundle: Path, full: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["estimate", str(bundle)]) == 0
    shown = capsys.readouterr().out
    found = estimate(to_half(full))
    for row in found["kernels"]:
        assert f" {row['name'].removeprefix(row['part'] + '.')} " in shown
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["estimate", str(bundle)]) == 0
    narrow = capsys.readouterr().out
    for row in found["kernels"]:
        moved = row["weight_bytes"] + row["read_bytes"] + row["written_bytes"]
        assert re.search(rf" {row['multiply_adds'] / 1e6:.2f} +{moved / 1e3:.0f} +{row['us']:.1f} ", narrow), "whole"
    assert f"fp16: {found['ms']['middle']:.2f} ms ({found['ms']['low']:.2f}-{found['ms']['high']:.2f})" in shown
    assert f"{found['launches']} launches" in shown
    assert "an estimate from arithmetic; on the board, measure: medtex-edge bench --backend tensorrt" in shown


def test_the_command_writes_json_of_any_precision_and_board(
    bundle: Path, full: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", str(bundle), "--precision", "fp32", "--board", "agx-orin", "--json", "-"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == {"bundle": str(bundle), "precision": "fp32", **estimate(full, "agx-orin")}
    assert main(["estimate", str(bundle), "--json", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["precision"] == "fp16"
    capsys.readouterr()
    assert main(["estimate", str(bundle), "--precision", "int8"]) == 3
    assert "export again with --int8" in capsys.readouterr().err


def test_a_bundle_whose_graph_is_none_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(write_toy(tmp_path / "x.medtex"))]) == 3
    assert "expected an ONNX graph" in capsys.readouterr().err


def test_without_onnx_the_command_names_the_extra(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("medtex_edge.export.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["estimate", str(bundle)]) == 2
    assert "pip install 'medtex-edge[export]'" in capsys.readouterr().err


def test_inspect_tells_in_a_line_what_the_report_expects(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"expected on Jetson Orin Nano 8 GB, MAXN SUPER, fp16: [\d.]+ ms \([\d.]+-[\d.]+\)", shown)
    assert "medtex-edge bench --backend tensorrt" in shown


@pytest.mark.parametrize(
    "value",
    [None, [], "fast", {"ms": 1}, {"note": "none: x"}, {"ms": {"middle": "1", "low": 1, "high": 1}, "parts": {}}],
)
def test_a_report_of_another_form_tells_nothing(value: Any) -> None:
    assert list(command.lines({"precisions": {"fp16": {"estimate": value}}})) == []
    assert list(command.lines({"precisions": [value]})) == []


def test_any_graph_of_ours_can_be_estimated() -> None:
    assert estimate(tiny())["launches"] > 0


def test_counting_needs_onnx_and_nothing_heavier() -> None:
    assert HEAVY & loaded_by("import medtex_edge.export.estimate.latency") == {"onnx"}
