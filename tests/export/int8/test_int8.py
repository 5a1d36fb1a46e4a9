"""Int8: what is written into the graph, which layers fall back to fp16, and what happens where bounds do not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import run_kit
from bundle_kit import contract, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.errors import BundleError, ParityError
from medtex_edge.export import build, gate, parity
from medtex_edge.export.gate import ProofCase
from medtex_edge.export.int8 import calibration, quantize, search
from medtex_edge.export.int8.quantize import Int8Layer
from medtex_edge.export.int8.search import Damage
from medtex_edge.export.precision import half, rounding
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import onnxruntime
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.train.run_folder import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    return run_kit.write_run(folder / "runs" / "toy", run_kit.write_photographs(folder / "photographs"))


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that the command makes with --int8."""
    path = tmp_path_factory.mktemp("out") / "toy.medtex"
    (path.parent / "toy.refused.png").write_bytes(b"of an earlier refusal")
    assert main(["export", str(run), "--int8", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def full(exported: Path) -> bytes:
    return Bundle.open(exported).model("fp32")


@pytest.fixture(scope="module")
def images(run: Path) -> parity.Images:
    return np.asarray(load_run(run).photographs("train").images)[:8]


@pytest.fixture(scope="module")
def scales(full: bytes, images: parity.Images) -> dict[str, float]:
    tensors = sorted({name for layer in quantize.layers(full) for name in layer.inputs})
    return calibration.observe(full, tensors, images, lambda _: None)


@pytest.fixture
def quick(full: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds of PyTorch's exporter."""
    monkeypatch.setattr(build, "to_onnx", lambda *_: full)


def entry(bundle: Path) -> dict[str, Any]:
    value: dict[str, Any] = Bundle.open(bundle).report["precisions"]["int8"]
    return value


# --- the graph ------------------------------------------------------------------------------------------------


def test_the_bundle_holds_a_smaller_int8_graph_and_no_fp16_one_that_was_not_requested(exported: Path) -> None:
    made = Bundle.open(exported)
    assert made.precisions == ("fp32", "int8")
    assert len(made.model("int8")) < 0.6 * len(made.model("fp32"))
    assert not (exported.parent / "toy.refused.png").exists()


def test_inputs_and_outputs_are_those_of_the_contract(exported: Path) -> None:
    model = onnx.load_from_string(Bundle.open(exported).model("int8"))
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 19)]
    assert [i.type.tensor_type.elem_type for i in model.graph.input] == [TensorProto.UINT8]
    assert [o.type.tensor_type.elem_type for o in model.graph.output] == [TensorProto.FLOAT] * 2
    assert [node.op_type for node in model.graph.node if "image" in node.input] == ["Cast"]


def test_the_int8_graph_passes_its_golden_vectors_by_its_own_bounds(exported: Path) -> None:
    made = Bundle.open(exported)
    with onnxruntime.open(made, precision="int8") as backend:
        drift = check_golden(backend, made, "int8")
        assert drift.count == len(made.golden) >= 5
        far = replace(made, golden=replace(made.golden, saliency=np.clip(made.golden.saliency + 0.2, 0, 1)))
        with pytest.raises(BundleError, match=r"bound 0\.03"):
            check_golden(backend, far, "int8")
    assert main(["verify", str(exported)]) == 0


def test_grids_are_symmetric_and_weights_have_one_for_each_output_channel(exported: Path) -> None:
    graph = onnx.load_from_string(Bundle.open(exported).model("int8")).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    zeros = [values[node.input[2]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    weights = {name: value for name, value in values.items() if name.endswith("_int8")}
    assert weights
    for name, value in weights.items():
        assert value.min() >= -quantize.LEVELS
        scale = next(v for k, v in values.items() if k in (name[:-4] + "scale", name[:-4] + "scale_half"))
        assert scale.shape == (value.shape[0],)


def test_every_convolution_of_int8_values_reads_both_inputs_from_a_grid_and_its_bias_in_full(exported: Path) -> None:
    made = Bundle.open(exported).model("int8")
    graph = onnx.load_from_string(made).graph
    rows = {row["layer"]: row["precision"] for row in entry(exported)["layers"]}
    makers = {node.output[0]: node for node in graph.node}
    names = [layer for layer in quantize.layers(Bundle.open(exported).model("fp32")) if rows[layer.name] == "int8"]
    assert names
    by_name = {node.name: node for node in graph.node}
    for layer in names:
        node = by_name[layer.node]
        assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        assert all(name not in makers for name in node.input[2:])


def test_layers_are_found_with_their_kind_part_and_multiply_adds(full: bytes, exported: Path) -> None:
    found = quantize.layers(full)
    cost = Bundle.open(exported).report["cost"]
    for part in ("student", "explainer"):
        adds = sum(layer.multiply_adds for layer in found if layer.part == part)
        assert adds == pytest.approx(cost[f"{part}_multiply_adds"], rel=0.01)
        assert [layer.kind for layer in found if layer.part == part].count("first") == 1
    kinds = [layer.kind for layer in found]
    assert (kinds.count("mask"), kinds.count("head"), kinds.count("last")) == (1, 1, 1)
    assert {"depthwise", "pointwise"} <= set(kinds)


def test_the_share_in_int8_is_that_of_the_multiply_adds(full: bytes, scales: dict[str, float]) -> None:
    able = [layer for layer in quantize.layers(full) if layer.multiply_adds]
    chosen = able[3:9]
    expected = sum(layer.multiply_adds for layer in chosen) / sum(layer.multiply_adds for layer in able)
    made = quantize.quantise(full, scales, {layer.node for layer in chosen})
    assert quantize.share(full) == 0
    assert quantize.share(made) == pytest.approx(expected)
    assert quantize.share(half.to_half(made)) == pytest.approx(expected)


def test_what_is_not_in_eight_bits_is_in_half_precision_but_for_what_was_kept(
    full: bytes, scales: dict[str, float]
) -> None:
    able = [layer for layer in quantize.layers(full) if layer.multiply_adds]
    eight, kept = able[4], able[6]
    made = half.to_half(quantize.quantise(full, scales, {eight.node}), frozenset({kept.node}))
    found = quantize.precisions(made, able)
    assert found.pop(eight.node) == "int8"
    assert found.pop(kept.node) == "fp32"
    assert "fp16" in set(found.values())


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-12, 6e4))
def test_a_step_is_held_by_half_precision_in_full_and_cuts_nothing_off(value: float) -> None:
    step = quantize.half_up(value)
    assert value <= step
    assert float(np.float16(step)) == step
    assert step <= max(value * (1 + 2**-10), np.finfo(np.float16).tiny)


def line(scale: float, weight: np.ndarray[Any, Any]) -> tuple[bytes, dict[str, float]]:
    """image (N, 4) -> float -> Gemm by `weight` (3, 4) -> both outputs."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["x", "w"], ["probabilities"], "gemm", transB=1),
        helper.make_node("Identity", ["probabilities"], ["saliency"], "same"),
    ]
    made = helper.make_graph(
        nodes, "line", [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("probabilities", "saliency")],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString()), {"x": scale}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.5, 1.0, 2.0, 2.5]))
def test_the_graph_rounds_as_numpy_does(seed: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    weight, image = draw.normal(size=(3, 4)).astype(np.float32), draw.integers(0, 256, (16, 4)).astype(np.uint8)
    content, steps = line(scale, weight)
    actual = rounding.literal(quantize.quantise(content, steps, {"gemm"}))(image)[0]
    step = quantize.weight_scales(weight, 0)[:, None]
    expected = np.clip(np.rint(image / scale), -128, 127) * scale @ (np.rint(weight / step) * step).T
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-3)


def test_integer_kernels_that_underflow_are_not_taken(full: bytes, scales: dict[str, float], images: Any) -> None:
    # ONNX Runtime's own fusions round biases to half-precision steps that underflow.
    eight = half.to_half(quantize.quantise(full, scales, {layer.node for layer in quantize.layers(full)[4:30]}))
    expected = parity.answers(rounding.literal(eight), images, lambda _: None)
    sides = replace(contract(), height=64, width=64, saliency_height=16, saliency_width=16)
    with onnxruntime.open_graph(eight, sides) as backend:
        actual = parity.of_backend(backend, images)
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-3)


# --- calibration ----------------------------------------------------------------------------------------------


def test_a_few_values_that_stand_out_are_cut_off_and_an_even_spread_is_not() -> None:
    even = np.ones(2048)
    assert calibration.step_of(1.0, even) == pytest.approx(1 / quantize.LEVELS, rel=0.02)
    lonely = np.zeros(2048)
    lonely[:1024], lonely[-1] = 1e6, 1
    assert calibration.step_of(1.0, lonely) < 0.6 / quantize.LEVELS


def test_ranges_grow_with_the_values(full: bytes, images: parity.Images) -> None:
    names = [layer.inputs[0] for layer in quantize.layers(full) if layer.kind == "first"]
    dark, bright = (calibration.observe(full, names, some, lambda _: None) for some in (images // 8, images))
    assert all(dark[name] > 0 for name in names)
    assert any(dark[name] != bright[name] for name in names)


# --- the search -----------------------------------------------------------------------------------------------


def damages(*rows: tuple[float, float, int]) -> list[Damage]:
    return [
        Damage(Int8Layer(f"n{i}", f"l{i}", "student", "pointwise", ("x",), adds), probability, saliency)
        for i, (probability, saliency, adds) in enumerate(rows)
    ]


def test_what_costs_most_for_what_it_saves_is_lifted_first_and_step_by_step() -> None:
    sets = list(search.candidates(damages(*[(1e-4 * (i + 1), 0, 100) for i in range(20)])))
    assert sets[0] == {f"n{i}" for i in range(20)}
    assert all(less < more for more, less in pairwise(sets))
    assert all("n0" in nodes for nodes in sets)
    assert len(sets[-1]) == 4  # a fifth


def test_a_layer_that_destroys_the_answer_is_never_taken_and_a_mask_neither() -> None:
    rows = damages((1e-4, 0, 100), (0.3, 0, 100), (0, 0.5, 100), (float("inf"), 0, 100), (0, 0, 0))
    assert list(search.candidates(rows)) == [{"n0"}]


def test_where_everything_is_destroyed_there_is_nothing_to_try() -> None:
    assert list(search.candidates(damages((0.5, 0, 100), (0.5, 0.5, 50)))) == []


def test_the_table_of_layers_lists_the_precision_of_each(exported: Path, full: bytes) -> None:
    found = entry(exported)
    rows = found["layers"]
    assert [row["layer"] for row in rows] == [layer.name for layer in quantize.layers(full)]
    assert {row["precision"] for row in rows} <= {"int8", "fp16", "fp32"}
    done = sum(row["multiply_adds"] for row in rows if row["precision"] == "int8")
    assert found["int8_share"] == pytest.approx(done / sum(row["multiply_adds"] for row in rows))
    assert found["int8_share"] == found["tries"][-1]["int8_share"] >= search.LEAST
    assert all(np.isfinite([row["probability"], row["saliency"]]).all() for row in rows)
    assert next(row for row in rows if row["kind"] == "mask")["precision"] != "int8"
    assert found["calibration"] == {"photographs": 24, "measured_on": 16, "split": "train"}


def test_damage_is_that_of_the_layer_alone(full: bytes, scales: dict[str, float], images: parity.Images) -> None:
    explainer = [layer for layer in quantize.layers(full) if layer.part == "explainer" and layer.multiply_adds][1]
    student = [layer for layer in quantize.layers(full) if layer.part == "student" and layer.multiply_adds][-1]
    of_map, of_class = search.measure(full, scales, [explainer, student], images[:4], lambda _: None)
    assert of_map.saliency > 0
    assert of_class.saliency < 1e-6
    assert of_class.probability > 0


# --- the gate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("validation", "training", "proved_on"), [(80, 318, 256), (20, 150, 106), (20, 100, 64)])
def test_layers_are_chosen_on_validation_photographs_and_on_training_ones_that_nothing_was_calibrated_on(
    validation: int, training: int, proved_on: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photograph is its number: those to train on follow those to validate on."""
    numbers = np.arange(validation + training).astype(np.float32)
    monkeypatch.setattr(parity, "reference", lambda model, images, tick: (images[:, :1], images[:, :, None]))
    photos = SimpleNamespace(images=numbers[validation:, None], keys=[f"{n:.0f}" for n in numbers[validation:]])
    count = max(validation, 64)
    first = np.concatenate([numbers[:validation], numbers[validation:][build._evenly(training, count - validation)]])
    keys = tuple(f"{n:.0f}" for n in first)
    case = ProofCase(
        contract(), first[:, None], keys, (first[:, None], first[:, None, None]), validation, photos.images  # type: ignore[arg-type]
    )  # fmt: skip
    run = SimpleNamespace(photographs=lambda split, data: photos)
    with ProgressDisplay(Console(quiet=True)) as steps:
        wide = build._wider(case, run, None, None, steps)  # type: ignore[arg-type]
    found = wide.images[:, 0]
    assert len(found) == len(set(found)) == proved_on
    assert np.array_equal(found[:validation], numbers[:validation])
    assert wide.keys == tuple(f"{n:.0f}" for n in found)
    assert np.array_equal(wide.expected[0], wide.images)
    assert np.array_equal(wide.expected[1], wide.images[:, :, None])
    if proved_on > 64:
        assert not set(found) & set(photos.images[build._calibration(training), 0])


@pytest.mark.parametrize(
    ("photographs", "flips", "fine"), [(64, 0, True), (99, 1, False), (100, 1, True), (199, 2, False)]
)
def test_of_a_hundred_photographs_one_label_and_one_verdict_may_flip(photographs: int, flips: int, fine: bool) -> None:
    found = parity.Parity(photographs, flips, 0, 0, 0, 0.01, 0.01, 0.99, 0)
    for one in (found, replace(found, label_flips=0, verdict_flips=flips)):
        assert parity.holds(one, parity.BOUNDS["int8"]) == fine
        assert not flips or not parity.holds(one, parity.BOUNDS["fp16"])
    if not fine:
        with pytest.raises(ParityError, match=r"labels flipped \d+ \(bound [01]\).*without --int8|no bundle") as caught:
            parity.check("int8", found, parity.BOUNDS["int8"], ["eye.png"], "test")
        assert "--int8" in caught.value.hint


def test_int8_that_is_too_coarse_is_refused_with_a_picture_and_no_bundle(
    run: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    layers: Callable[[bytes], list[Int8Layer]] = quantize.layers
    monkeypatch.setattr(quantize, "LEVELS", 2)  # not eight bits but two
    monkeypatch.setattr(quantize, "layers", lambda content: layers(content)[:12])
    monkeypatch.setattr(search, "LEAST", 0.9)
    monkeypatch.setattr(Damage, "squared", lambda _: 1e-9)
    assert main(["export", str(run), "--int8", "--out", str(tmp_path / "toy.medtex")]) == 4
    error = capfd.readouterr().err
    assert "int8 (rounded) differs from the trained model on 30 photographs" in error
    assert "without --int8" in error
    picture = tmp_path / "toy.refused.png"
    assert str(picture) in error
    assert list(tmp_path.iterdir()) == [picture]
    assert cv2.imread(str(picture)).shape[1] > 800


def test_where_no_layer_can_be_rounded_the_export_states_which_is_worst(
    run: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = quantize.layers
    monkeypatch.setattr(quantize, "layers", lambda content: layers(content)[:2])
    monkeypatch.setattr(Damage, "squared", lambda d: float(d.layer.kind == "first") + 1)
    assert main(["export", str(run), "--int8", "--out", str(tmp_path / "toy.medtex")]) == 4
    assert "most damage is done by explainer.encoder.stem" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_picture_shows_the_worst_photographs_first(tmp_path: Path) -> None:
    agreed = contract()
    drawn = golden(agreed, 6)
    expected = drawn.probabilities, drawn.saliency
    actual = expected[0].copy(), expected[1].copy()
    actual[0][4] = actual[0][4][::-1]
    actual[1][4] = np.nan
    keys = [f"eye-{i}.png" for i in range(6)]
    gate.draw_refusal(tmp_path / "x.png", drawn.images, keys, expected, actual, agreed)
    picture = cv2.imread(str(tmp_path / "x.png"))
    rows, columns = picture.shape[:2]
    assert columns > 4 * 200
    first = picture[: rows // gate.ROWS]
    calm = picture[-rows // gate.ROWS :]
    largest = cv2.applyColorMap(np.full((1, 1), 255, np.uint8), cv2.COLORMAP_VIRIDIS)[0, 0]
    assert (first[:, -100:] == largest).all(axis=2).any()  # nan is the largest difference there is
    assert not (calm[:, -100:] == largest).all(axis=2).any()
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_the_int8_graph_builds_in_tensorrt(exported: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(Bundle.open(exported).model("int8"))
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert network.get_input(0).dtype == trt.DataType.UINT8
    assert [network.get_output(i).dtype for i in range(network.num_outputs)] == [trt.DataType.FLOAT] * 2
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    shape = tuple(1 if side < 0 else side for side in network.get_input(0).shape)
    profile.set_shape("image", shape, shape, shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
