"""The precision gate: the comparison with the trained model, its bounds, and what it refuses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_kit import contract, golden
from export_kit import spoiled
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.errors import ParityError
from medtex_edge.export import parity
from medtex_edge.export.precision import half as precision


def answers(count: int = 6, seed: int = 0) -> parity.Answers:
    drawn = golden(contract(), count, seed)
    return drawn.probabilities, drawn.saliency


def test_equal_answers_differ_by_nothing() -> None:
    found = parity.compare(answers(), answers(), contract())
    assert found == dataclasses.replace(
        found, label_flips=0, label_ties=0, verdict_flips=0, verdict_ties=0, probability=0, saliency=0
    )
    assert found.rank_correlation == pytest.approx(1)
    parity.check("fp32", found, parity.BOUNDS["fp32"], [""] * 6, "test")


def test_a_flipped_label_is_counted_and_refused() -> None:
    probabilities = np.array([[0.501, 0.499, 0.0]], np.float32)
    expected = (probabilities, answers(1)[1])
    actual = (probabilities[:, [1, 0, 2]], answers(1)[1])
    found = parity.compare(expected, actual, contract(referable=(2,)))
    assert (found.label_flips, found.verdict_flips) == (1, 0)
    with pytest.raises(ParityError, match=r"labels flipped 1 \(bound 0\).*worst on eye\.png") as caught:
        parity.check("fp16", found, parity.BOUNDS["fp16"], ["eye.png"], "test")
    assert caught.value.exit_code == 4


def test_a_label_that_the_model_itself_cannot_decide_is_a_tie_and_reported() -> None:
    probabilities = np.array([[0.5001, 0.4999, 0.0]], np.float32)
    found = parity.compare((probabilities, answers(1)[1]), (probabilities[:, [1, 0, 2]], answers(1)[1]), contract())
    assert (found.label_flips, found.label_ties) == (0, 1)
    parity.check("fp16", found, parity.BOUNDS["fp16"], ["eye.png"], "test")


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
    actual = [part.copy() for part in answers()]
    actual[which][2] = np.nan
    found = parity.compare(answers(), (actual[0], actual[1]), contract())
    assert (found.probability, found.saliency)[which] == np.inf
    with pytest.raises(ParityError, match="inf"):
        parity.check("fp32", found, parity.BOUNDS["fp32"], list("abcdef"), "test")


@pytest.mark.parametrize(
    "change", [{"probability": 0.03}, {"saliency": 0.02}, {"rank_correlation": 0.9}, {"verdict_flips": 1}]
)
def test_each_number_beyond_its_bound_refuses(change: dict[str, Any]) -> None:
    found = dataclasses.replace(parity.compare(answers(), answers(), contract()), **change)
    with pytest.raises(ParityError, match="no bundle was written"):
        parity.check("fp16", found, parity.BOUNDS["fp16"], list("abcdef"), "test")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=40))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    from scipy import stats

    a, b = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    actual = parity.rank_correlation(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert actual is None
    else:
        assert actual == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_the_order_of_pixels_that_are_all_but_zero_does_not_count() -> None:
    draw = np.random.default_rng(0)
    sparse = (draw.random((16, 16)) * 1e-6).astype(np.float32)
    sparse[3:5, 3:6] = draw.random((2, 3)) * 0.5 + 0.5
    noisy = sparse + (draw.random((16, 16)) * 1e-6).astype(np.float32)
    assert parity.rank_correlation(sparse, noisy) == 1
    turned = sparse.T.copy()
    assert (parity.rank_correlation(sparse, turned) or 0) < parity.BOUNDS["fp32"].rank_correlation


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
