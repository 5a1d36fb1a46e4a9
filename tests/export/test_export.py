"""From a run folder to a bundle: the graph, its precisions, the gate, and the two commands that look at the file."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import run_kit
import torch
from bundle_kit import contract, golden, write_toy
from bundles import SIZE, bundle, graph
from bundles import contract as tiny_contract
from bundles import golden as tiny_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medtex_edge.bundle import Bundle, Golden, write_bundle
from medtex_edge.cli import main
from medtex_edge.errors import BackendError, DataError, ParityError
from medtex_edge.export import build
from medtex_edge.export import onnx as export_onnx
from medtex_edge.export.estimate.latency import estimate
from medtex_edge.export.gate import parity
from medtex_edge.export.graph import Deployed, cost
from medtex_edge.export.precision import half as precision
from medtex_edge.export.precision import rounding
from medtex_edge.files import without_folders
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import onnxruntime
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.train.run_folder import load_run

REAL = Path(__file__).parents[2] / "../shared/data/idrid"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_kit.write_photographs(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    return run_kit.write_run(tmp_path_factory.mktemp("work") / "runs" / "toy", photographs)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that the command makes, fp16 included."""
    path = tmp_path_factory.mktemp("out") / "toy.medtex"
    assert main(["export", str(run), "--fp16", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def full(exported: Path) -> bytes:
    """The exported fp32 graph."""
    return Bundle.open(exported).model("fp32")


@pytest.fixture
def quick(full: bytes, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], None]:
    """Spare the seconds of PyTorch's exporter: `build` gets this graph (or the one it is called with)."""

    def use(content: bytes | None = None) -> None:
        monkeypatch.setattr(build, "to_onnx", lambda *_: content or full)

    use()
    return use


def spoiled(content: bytes, pattern: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> bytes:
    """The same graph with the first matching weight changed."""
    model = onnx.load_from_string(content)
    item = next(item for item in model.graph.initializer if re.search(pattern, item.name))
    item.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(item).copy()), item.name))
    return bytes(model.SerializeToString())


# --- the graph ------------------------------------------------------------------------------------------------


def test_the_graph_is_what_the_contract_says_for_any_batch(exported: Path) -> None:
    made = Bundle.open(exported)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    for name in made.precisions:
        with onnxruntime.open(made, precision=name) as backend:
            together = backend.infer(images)
            alone = [backend.infer(images[i : i + 1]) for i in range(5)]
        assert together.probabilities.shape == (5, 3)
        assert together.saliency.shape == (5, 16, 16)
        np.testing.assert_allclose(together.probabilities, np.concatenate([o.probabilities for o in alone]), atol=1e-5)


def test_the_input_is_cast_before_anything_else(full: bytes) -> None:
    nodes = [node for node in onnx.load_from_string(full).graph.node if "image" in node.input]
    assert [node.op_type for node in nodes] == ["Cast"]


def test_the_graph_holds_no_arithmetic_of_shapes_and_no_batch_normalisation(full: bytes) -> None:
    kinds = {node.op_type for node in onnx.load_from_string(full).graph.node}
    assert not kinds & {"Shape", "Concat", "Constant", "BatchNormalization", "Expand", "Range", "If", "Loop"}
    assert {"Conv", "Resize", "Softmax"} <= kinds


def test_the_graph_is_of_an_opset_that_every_engine_reads(exported: Path) -> None:
    made = Bundle.open(exported)
    for name in made.precisions:
        model = onnx.load_from_string(made.model(name))
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        assert model.ir_version <= 9
        onnx.checker.check_model(model, full_check=True)


def test_nothing_in_the_bundle_names_this_machine(exported: Path, run: Path) -> None:
    content = exported.read_bytes()
    for word in (b"site-packages", b"stack_trace", str(run.parent).encode(), str(Path.home()).encode() + b"/"):
        assert word not in content
    made = Bundle.open(exported)
    assert all(b".py" not in made.model(name) for name in made.precisions)
    report = made.report
    assert report["metrics"]["saliency"]["masks"] == "x"  # the run says /home/ann/x
    assert not re.search(r'"(/|~|[A-Z]:\\)', json.dumps(report))


def test_the_module_that_is_exported_computes_what_the_trained_one_does() -> None:
    trained = run_kit.model(seed=1)
    trained.temperature = 1.7
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        for ours, theirs in zip(Deployed(trained)(images), trained(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_multiply_adds_are_those_of_the_layers() -> None:
    made = run_kit.model()
    counted = cost(made)
    assert counted.student_parameters == sum(p.numel() for p in made.student.parameters())
    classifier = made.student.net.get_classifier()
    stem = made.student.net.conv_stem
    assert counted.student_multiply_adds > classifier.weight.numel() + stem.weight.numel() * 32 * 32
    assert 0 < counted.explainer_multiply_adds < counted.student_multiply_adds


def test_a_model_that_cannot_be_exported_is_one_clear_error() -> None:
    class Undecided(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = image.float()
            return (x, x) if x.sum() > 3 else (x + 1, x)

    with pytest.raises(BackendError, match="cannot export this model") as caught:
        export_onnx.to_onnx(Undecided(), 8)
    assert "\n" not in caught.value.message


# --- half precision -------------------------------------------------------------------------------------------


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
    came, _ = rounding.EmulatedSession(rounding.emulate(chain(first, second))).infer(image)
    expected = image.astype(np.float16) * np.float16(first) * np.float16(second)
    normal = np.abs(expected) >= 6.2e-5  # below, half precision is coarser than what it is emulated by
    np.testing.assert_array_equal(came[normal], expected.astype(np.float32)[normal])


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


# --- the gate -------------------------------------------------------------------------------------------------


def answers(count: int = 6, seed: int = 0) -> parity.Answers:
    drawn = golden(contract(), count, seed)
    return drawn.probabilities, drawn.saliency


def test_equal_answers_differ_by_nothing() -> None:
    found = parity.compare(answers(), answers(), contract())
    assert found == dataclasses.replace(
        found, label_flips=0, label_ties=0, verdict_flips=0, verdict_ties=0, probability=0, saliency=0
    )
    assert found.rank_correlation == pytest.approx(1)
    parity.check("fp32", found, precision.BOUNDS["fp32"], [""] * 6, "test")


def test_a_flipped_label_is_counted_and_refused() -> None:
    probabilities = np.array([[0.501, 0.499, 0.0]], np.float32)
    expected = (probabilities, answers(1)[1])
    came = (probabilities[:, [1, 0, 2]], answers(1)[1])
    found = parity.compare(expected, came, contract(referable=(2,)))
    assert (found.label_flips, found.verdict_flips) == (1, 0)
    with pytest.raises(ParityError, match=r"labels flipped 1 \(bound 0\).*worst on eye\.png") as caught:
        parity.check("fp16", found, precision.BOUNDS["fp16"], ["eye.png"], "test")
    assert caught.value.exit_code == 4


def test_a_label_that_the_model_itself_cannot_decide_is_a_tie_and_said() -> None:
    probabilities = np.array([[0.5001, 0.4999, 0.0]], np.float32)
    found = parity.compare((probabilities, answers(1)[1]), (probabilities[:, [1, 0, 2]], answers(1)[1]), contract())
    assert (found.label_flips, found.label_ties) == (0, 1)
    parity.check("fp16", found, precision.BOUNDS["fp16"], ["eye.png"], "test")


@pytest.mark.parametrize(("step", "flips", "ties"), [(4e-4, 0, 1), (2e-3, 1, 0)])
def test_a_verdict_that_flips_at_the_threshold_is_a_tie_and_further_off_a_flip(
    step: float, flips: int, ties: int
) -> None:
    def at(referable: float) -> parity.Answers:
        return np.array([[1 - referable, referable, 0]], np.float32), answers(1)[1]

    found = parity.compare(at(0.5 + step), at(0.5 - step), contract(referable=(1, 2)))
    assert (found.verdict_flips, found.verdict_ties) == (flips, ties)


@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_the_largest_difference_there_is(which: int) -> None:
    came = [part.copy() for part in answers()]
    came[which][2] = np.nan
    found = parity.compare(answers(), (came[0], came[1]), contract())
    assert (found.probability, found.saliency)[which] == np.inf
    with pytest.raises(ParityError, match="inf"):
        parity.check("fp32", found, precision.BOUNDS["fp32"], list("abcdef"), "test")


@pytest.mark.parametrize(
    "change", [{"probability": 0.03}, {"saliency": 0.02}, {"rank_correlation": 0.9}, {"verdict_flips": 1}]
)
def test_each_number_beyond_its_bound_refuses(change: dict[str, Any]) -> None:
    found = dataclasses.replace(parity.compare(answers(), answers(), contract()), **change)
    with pytest.raises(ParityError, match="no bundle was written"):
        parity.check("fp16", found, precision.BOUNDS["fp16"], list("abcdef"), "test")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=40))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    from scipy import stats

    a, b = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    came = parity.rank_correlation(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert came is None
    else:
        assert came == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_the_order_of_pixels_that_are_all_but_zero_does_not_count() -> None:
    draw = np.random.default_rng(0)
    sparse = (draw.random((16, 16)) * 1e-6).astype(np.float32)
    sparse[3:5, 3:6] = draw.random((2, 3)) * 0.5 + 0.5
    noisy = sparse + (draw.random((16, 16)) * 1e-6).astype(np.float32)
    assert parity.rank_correlation(sparse, noisy) == 1
    turned = sparse.T.copy()
    assert (parity.rank_correlation(sparse, turned) or 0) < precision.BOUNDS["fp32"].rank_correlation


@pytest.mark.parametrize("what", ["probability", "saliency"])
def test_a_graph_that_answers_otherwise_is_refused_and_no_file_is_left(
    what: str,
    full: bytes,
    run: Path,
    tmp_path: Path,
    quick: Callable[[bytes | None], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    pattern = r"student\.net\.(classifier|fc)\.weight" if what == "probability" else r"explainer\.decoder\.head\.weight"
    quick(spoiled(full, pattern, lambda weight: weight * np.float32(0.7)))
    path = tmp_path / "toy.medtex"
    path.write_bytes(b"the bundle of yesterday")
    assert main(["export", str(run), "--out", str(path)]) == 4
    error = capfd.readouterr().err
    assert re.search(what + r" by up to [\d.]+ \(bound 0\.001\)", error)
    assert "Traceback" not in error
    assert path.read_bytes() == b"the bundle of yesterday"
    picture = tmp_path / "toy.refused.png"
    assert f"shown in {picture}" in error
    assert {*tmp_path.iterdir()} == {path, picture}


def test_a_graph_that_gives_nonsense_is_refused_as_a_difference(
    full: bytes, run: Path, tmp_path: Path, quick: Callable[[bytes | None], None]
) -> None:
    quick(spoiled(full, r"student\.net\.(classifier|fc)\.weight", lambda weight: weight * np.float32("nan")))
    assert main(["export", str(run), "--out", str(tmp_path / "toy.medtex")]) == 4
    assert list(tmp_path.iterdir()) == []


def test_the_rungs_go_from_nothing_to_the_student_and_spare_the_explainer(full: bytes) -> None:
    rungs = list(precision.rungs(full))
    shares = [precision.half_share(precision.to_half(full, keep)) for keep in rungs]
    assert rungs[0] == frozenset()
    assert all(less < more for less, more in pairwise(rungs))
    assert shares == sorted(shares, reverse=True)
    weights = {i.name: i.data_type for i in onnx.load_from_string(precision.to_half(full, rungs[-1])).graph.initializer}
    halves = [name for name, kind in weights.items() if kind == TensorProto.FLOAT16 and "weight" in name]
    assert halves
    assert all("explainer" in name for name in halves)


def test_where_labels_flip_less_is_in_half_precision_until_they_do_not(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flips_at_first(content: bytes, keep: frozenset[str] = frozenset()) -> bytes:
        half = original(content, keep)
        coarse = len(keep) < 20
        return spoiled(half, "conv_stem.*weight", lambda weight: np.round(weight, 1)) if coarse else half

    original = precision.to_half
    monkeypatch.setattr(precision, "to_half", flips_at_first)
    assert main(["export", str(run), "--fp16", "--out", str(tmp_path / "toy.medtex")]) == 0
    entry = Bundle.open(tmp_path / "toy.medtex").report["precisions"]["fp16"]
    assert len(entry["tries"]) > 1
    assert entry["tries"][0]["probability"] > entry["bounds"]["probability"]
    assert entry["tries"][-1]["half_share"] == entry["half_share"] < entry["tries"][0]["half_share"]
    assert len(entry["kept_in_fp32"]) >= 20


def test_half_precision_that_is_too_coarse_is_refused_with_its_numbers(
    full: bytes, run: Path, tmp_path: Path, quick: Callable[[bytes | None], None],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def coarse(content: bytes, keep: frozenset[str] = frozenset()) -> bytes:
        return spoiled(original(content, keep), "conv_stem.*weight", lambda weight: np.round(weight, 1))

    original = precision.to_half
    monkeypatch.setattr(precision, "to_half", coarse)
    assert main(["export", str(run), "--fp16", "--out", str(tmp_path / "toy.medtex")]) == 4
    error = capfd.readouterr().err
    assert "fp16" in error
    assert "without --fp16" in error
    assert [path.name for path in tmp_path.iterdir()] == ["toy.refused.png"]


# --- the whole way --------------------------------------------------------------------------------------------


def test_the_report_holds_parity_metrics_cost_and_provenance(exported: Path) -> None:
    report = Bundle.open(exported).report
    assert report["metrics"]["student"]["auc_referable"] == 0.91
    for name, engines in (("fp32", {"onnxruntime"}), ("fp16", {"onnxruntime", "rounded"})):
        entry = report["precisions"][name]
        assert set(entry["parity"]) == engines
        assert entry["bytes"] == len(Bundle.open(exported).model(name))
        assert entry["estimate"] == estimate(Bundle.open(exported).model(name))
        for found in entry["parity"].values():
            assert found["photographs"] == 30
            assert found["label_flips"] == 0
            assert found["probability"] <= entry["bounds"]["probability"]
        assert entry["bytes"] == len(Bundle.open(exported).model(name))
        assert entry["cpu_ms"] > 0
    assert report["photographs"] == {"val": 6, "train": 24}  # fewer than 64 of the validation split
    assert report["provenance"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert report["provenance"]["run"]["data_fingerprint"]
    assert report["cost"]["student_multiply_adds"] > 0


def test_golden_vectors_are_the_trained_models_own_answers(exported: Path, run: Path) -> None:
    made = Bundle.open(exported)
    with torch.inference_mode():
        probabilities, saliency = load_run(run).load_model()(torch.from_numpy(made.golden.images.copy()))
    np.testing.assert_allclose(made.golden.probabilities, probabilities.numpy(), atol=1e-6)
    np.testing.assert_allclose(made.golden.saliency, saliency.numpy(), atol=1e-6)
    assert len(made.golden) >= 5
    for name in made.precisions:
        with onnxruntime.open(made, precision=name) as backend:
            check_golden(backend, made)


def test_the_same_run_gives_the_same_bundle(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("a", "b"):
        assert main(["export", str(run), "--fp16", "--out", str(tmp_path / f"{name}.medtex")]) == 0
    assert (tmp_path / "a.medtex").read_bytes() == (tmp_path / "b.medtex").read_bytes()
    made = Bundle.open(tmp_path / "a.medtex")
    assert made.contract.created == "2023-11-14T22:13:20Z"
    assert all("cpu_ms" not in entry for entry in made.report["precisions"].values())


def test_without_arguments_the_newest_run_becomes_a_bundle_here(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(run, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert main(["export"]) == 0
    assert Bundle.open(tmp_path / "toy.medtex" if (tmp_path / "toy.medtex").exists() else "mine.medtex").precisions == (
        "fp32",
    )
    assert "medtex-edge run mine.medtex --camera" in capsys.readouterr().out
    assert main(["verify"]) == 0
    assert main(["inspect"]) == 0


def test_json_goes_to_stdout_alone(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--json", "--out", str(tmp_path / "toy.medtex")]) == 0
    value = json.loads(capfd.readouterr().out)
    assert value["bundle"] == str(tmp_path / "toy.medtex")
    assert value["precisions"]["fp32"]["parity"]["onnxruntime"]["label_flips"] == 0


def test_photographs_that_were_moved_are_asked_for_and_taken(
    run: Path,
    photographs: Path,
    tmp_path: Path,
    quick: Callable[[bytes | None], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(photographs, moved)
    text = (run / "config.toml").read_text("utf-8").replace(str(photographs.resolve()), "/nowhere/at/all")
    shutil.copytree(run, tmp_path / "runs" / "copy")
    (tmp_path / "runs" / "copy" / "config.toml").write_text(text, "utf-8")
    command = ["export", str(tmp_path / "runs" / "copy"), "--out", str(tmp_path / "x.medtex")]
    assert main(command) == 5
    assert "--data DIR" in capfd.readouterr().err
    assert main([*command, "--data", str(moved)]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["export", "nowhere"], 5, "nowhere is no finished run"),
        (["export", "RUN", "--out", "model.onnx"], 2, "ends in .medtex"),
        (["export", "RUN", "--out", "folder.medtex"], 2, "is a folder"),
        (["export", "RUN", "--out", "file/x.medtex"], 9, "cannot write"),
        (["export"], 2, "no finished run"),
        (["verify"], 2, "no bundle"),
        (["verify", "missing.medtex"], 3, "No such file"),
        (["inspect", "file"], 3, "a zip archive"),
    ],
)
def test_mistakes_are_one_line_and_their_exit_code(
    arguments: list[str], code: int, words: str, run: Path, tmp_path: Path, quick: Callable[[bytes | None], None],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.medtex").mkdir()
    (tmp_path / "file").write_text("hello")
    assert main([str(run) if a == "RUN" else a for a in arguments]) == code
    error = capfd.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.medtex"]


def test_a_run_whose_card_cannot_be_a_contract_is_refused(run: Path, photographs: Path, tmp_path: Path) -> None:
    bad = run_kit.write_run(tmp_path / "runs" / "bad", photographs, referable=[0, 1, 2])
    with pytest.raises(DataError, match="referable"):
        build.contract_of(load_run(bad))


def test_golden_frames_that_a_precision_does_not_reproduce_are_refused(
    full: bytes, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_run(run).load_model()
    agreed = build.contract_of(load_run(run))
    right = build.golden_of(trained, agreed, {"fp32": full})
    whole = build.golden_frames(64)
    assert len(right) == len(whole)
    wrong = spoiled(full, r"explainer\.decoder\.head\.weight", lambda weight: -weight)
    with pytest.raises(ParityError, match="golden vectors"):
        build.golden_of(trained, agreed, {"fp32": full, "fp16": wrong})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ann/eyes/labels.csv", "labels.csv"),
        ("medtex-edge export /srv/ward 7/run --data=/mnt/x/y", "medtex-edge export ward 7/run --data=y"),
        ("C:\\Users\\ann\\model.onnx", "model.onnx"),
        ("file:///var/tmp/x", "x"),
        ("~ann/x/y", "y"),
        ("runs/teacher", "runs/teacher"),
        ("../shared/data/idrid", "../shared/data/idrid"),
        ("fov-square-area/1", "fov-square-area/1"),
        ("a ratio of 3/4, 1/2", "a ratio of 3/4, 1/2"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_folders_are_taken_from_absolute_paths_and_from_nothing_else(text: str, left: str) -> None:
    assert without_folders({"a": [text]}) == {"a": [left]}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photographs are not beside the project (../shared/data/idrid)")
def test_real_photographs_pass_the_gate_in_both_precisions(
    tmp_path: Path, quick: Callable[[bytes | None], None]
) -> None:
    with (REAL / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for grade in "024" for row in [row for row in rows if row["grade"] == grade][:6]]
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "images").symlink_to((REAL / "images").resolve())
    lines = [
        f"{row['image']},{'024'.index(row['grade'])},{'val' if i % 3 == 0 else 'train'}" for i, row in enumerate(chosen)
    ]
    (folder / "labels.csv").write_text("image,label,split\n" + "\n".join(lines) + "\n", "utf-8")
    _gate_of(folder, tmp_path)


def test_drawn_photographs_pass_the_gate_in_both_precisions(
    tmp_path: Path, photographs: Path, quick: Callable[[bytes | None], None]
) -> None:
    _gate_of(photographs, tmp_path)


def _gate_of(photographs: Path, folder: Path) -> None:
    from rich.console import Console

    path = run_kit.write_run(folder / "runs" / "gate", photographs)
    with ProgressDisplay(Console(quiet=True)) as steps:
        built = build.build(load_run(path), folder / "x.medtex", fp16=True, data=None, command="test", steps=steps)
    found = built.report["precisions"]["fp16"]["parity"]
    assert all(parity_of["label_flips"] == 0 and parity_of["photographs"] >= 18 for parity_of in found.values())


# --- verify and inspect ---------------------------------------------------------------------------------------


def refused(path: Path, capfd: pytest.CaptureFixture[str], words: str) -> None:
    """`verify` ends with exit code 3 and one line of error, and writes nothing."""
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    capfd.readouterr()
    assert main(["verify", str(path)]) == 3
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith(f"error: {path}: ")
    assert len([line for line in error.splitlines() if not line.startswith("  hint: ")]) == 1
    assert words in error
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


def test_verify_says_what_it_recomputed(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(exported)]) == 0
    assert "every sum holds" in (out := capsys.readouterr().out)
    assert "fp32: 8 golden frames" in out or "fp32: 7 golden frames" in out
    assert main(["verify", str(exported), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is True
    assert set(value["drift"]) == {"fp32", "fp16"}


def test_verify_refuses_damage_in_one_line(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = exported.read_bytes()
    path = tmp_path / "x.medtex"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    refused(path, capfd, "damaged")
    path.write_bytes(content[:middle])
    refused(path, capfd, "truncated")
    path.write_bytes(content.replace(b"report.json", b"../port.txt"))
    refused(path, capfd, "plain file names")
    path.write_text("Dear doctor")
    refused(path, capfd, "a zip archive")
    path.write_bytes(b"")
    refused(path, capfd, "0 bytes")


def test_verify_catches_a_contract_that_lies_about_shapes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Contract and golden vectors agree with each other here; only the graph knows better.
    lie = tiny_contract(size=SIZE * 2)
    path = write_bundle(tmp_path / "x.medtex", lie, {"fp32": graph(SIZE)}, golden(lie), {})
    refused(path, capfd, "by the contract")


def test_verify_catches_a_graph_that_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused(write_toy(tmp_path / "x.medtex"), capfd, "refuses the graph")


def test_verify_catches_answers_that_drifted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused(bundle(tmp_path / "x.medtex", drift=0.2), capfd, "saliency by")


def test_verify_catches_a_graph_whose_answers_are_none_on_the_golden_frames(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agreed = tiny_contract()
    vectors = tiny_golden(graph(), agreed)
    # NaN where an image is brighter than black: the black frame of the start goes through.
    model = onnx.load_from_string(graph())
    weight = next(item for item in model.graph.initializer if item.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(np.full((1, 3), np.float32("inf")), "weight"))
    path = write_bundle(
        tmp_path / "x.medtex", agreed, {"fp32": bytes(model.SerializeToString())},
        Golden(vectors.images, vectors.probabilities, vectors.saliency), {},
    )  # fmt: skip
    refused(path, capfd, "expected numbers in 0..1")


def test_inspect_shows_what_is_promised(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(exported)]) == 0
    out = capsys.readouterr().out
    for words in ("fov-square-area/1", "referable probability >= 0.6000", "0.91", "model.fp16.onnx", "fp16"):
        assert words in out
    assert main(["inspect", str(exported), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["contract"]["classes"] == ["0", "1", "2"]
    assert value["members"]["model.fp32.onnx"]["sha256"]


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"metrics": None, "precisions": 7, "provenance": [], "cost": "free"},
        {"metrics": ["a"], "precisions": {"fp32": 1, "fp16": {"parity": [], "bytes": "many"}}},
        {"precisions": {"[bold]": {"parity": {"[/x]": {"photographs": {"a": 1}, "rank_correlation": "[red]"}}}}},
        {"metrics": {"\x1b[2J": "\x1b]0;title\x07", "[link=x]": "[/nonsense]"}, "provenance": {"command": "\x9b31m"}},
    ],
)
def test_inspect_shows_any_report_and_obeys_none(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_toy(tmp_path / "x.medtex", report=report)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out)
