"""Measures of answers and of maps, held to cases whose result is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from medtex_edge.train.metrics.calibration import fit_temperature
from medtex_edge.train.metrics.classification import answer_metrics, auc, roc
from medtex_edge.train.metrics.intervals import auc_interval, bootstrap_mean, proportion_interval
from medtex_edge.train.metrics.operating_point import choose_operating_point
from medtex_edge.train.metrics.ranks import rank_auc, rank_correlation
from medtex_edge.train.metrics.saliency import dilate, pixel_auc, pointing, saliency_report, score_maps


def test_the_auc_interval_holds_the_auc_and_narrows_with_more_photographs() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (40, 400):
        truth = np.arange(count) % 2 == 0
        scores = rng.normal(size=count) + truth
        low, high = auc_interval(scores, truth) or (0, 0)
        assert low < (auc(scores, truth) or 0) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_one_class_alone_has_no_auc_instead_of_a_number() -> None:
    assert auc(np.array([0.1, 0.9]), np.array([True, True])) is None
    p = np.array([[0.9, 0.1], [0.8, 0.2]])
    result = answer_metrics(p, np.array([0, 0]), (1,), ordered=True)
    assert result["auc_referable"] is None
    assert result["qwk"] is None
    assert result["accuracy"] == 1


def test_clopper_pearson_matches_published_values() -> None:
    # 8 of 10 and 0 of 20, as in Newcombe (1998) and the rule of three.
    assert proportion_interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert proportion_interval(0, 20) == pytest.approx((0, 0.1684), abs=1e-4)
    assert proportion_interval(0, 0) == (0, 1)


@given(st.integers(1, 300), st.data())
def test_clopper_pearson_is_scipys_but_for_the_last_bits(total: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, total))
    exact = binomtest(successes, total).proportion_ci(0.95, method="exact")
    assert proportion_interval(successes, total) == pytest.approx((exact.low, exact.high), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_the_roc_curve_and_the_ranks_have_the_area_that_scikit_learn_computes(pairs: list[tuple[int, bool]]) -> None:
    scores, truth = np.array([score for score, _ in pairs], float), np.array([positive for _, positive in pairs])
    curve = roc(scores, truth)
    if curve is None:
        assert truth.all() or not truth.any()
        return
    x, y = np.array(curve["fpr"]), np.array(curve["tpr"])
    expected = pytest.approx(roc_auc_score(truth, scores))
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == expected
    assert rank_auc(scores, truth) == expected
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_the_rank_correlation_is_of_the_order_alone_and_none_for_a_flat_map() -> None:
    a = np.random.default_rng(0).random((7, 7))
    assert rank_correlation(a, a**3) == 1
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.ones_like(a)) is None


def test_the_interval_of_a_mean_covers_it_as_often_as_it_states() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        _, (low, high) = bootstrap_mean(rng.exponential(size=60), repeats=400, seed=seed)
        covered += low <= 1 <= high
    assert 0.89 <= covered / 200 <= 0.99


@pytest.mark.parametrize("values", [[0.5], [0.0, 1.0], [1.0, 1.0, 1.0, 0.0], [0.1, 0.2]])
def test_a_handful_of_photographs_still_has_an_interval_around_its_mean(values: list[float]) -> None:
    mean, (low, high) = bootstrap_mean(np.array(values))
    assert min(values) <= low <= mean <= high <= max(values)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), target=st.floats(0.5, 1.0), count=st.integers(8, 120))
def test_the_operating_point_reaches_the_wanted_sensitivity_and_no_higher_threshold_does(
    seed: int, target: float, count: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.5
    truth[:2] = True, False
    scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    point = choose_operating_point(scores, truth, target)
    assert point.sensitivity >= target - 1e-9
    positive = np.sort(scores[truth])
    above = positive[positive >= point.threshold]
    if len(above):
        higher = float(above[0]) + 1e-5
        assert (positive >= higher).mean() < target or (positive >= higher).sum() == len(above)
    assert point.sensitivity_interval[0] <= point.sensitivity <= point.sensitivity_interval[1]


def test_the_temperature_of_an_over_sure_model_is_found() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(size=(4000, 3)) * 2
    p = np.exp(true_logits) / np.exp(true_logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    assert fit_temperature(true_logits * 3, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(true_logits, labels) == pytest.approx(1, rel=0.1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.integers(2, 50))
def test_the_pixel_auc_is_scikit_learns_ties_included(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    saliency = (rng.integers(0, levels, (12, 12)) / levels).astype(np.float32)
    lesions = rng.random((12, 12)) < 0.2
    lesions[0, 0], lesions[0, 1] = True, False
    visible = np.ones((12, 12), bool)
    assert pixel_auc(saliency, lesions, visible) == pytest.approx(roc_auc_score(lesions.ravel(), saliency.ravel()))


def _lesion() -> tuple[np.ndarray, np.ndarray]:
    images = np.full((3, 224, 224, 3), 90, np.uint8)
    lesions = np.zeros((3, 224, 224), bool)
    for i in range(3):
        lesions[i, 40 + 50 * i : 56 + 50 * i, 60:76] = True
    return images, lesions


def test_perfect_uniform_and_inverted_maps_score_as_they_must() -> None:
    images, lesions = _lesion()
    perfect = np.stack([dilate(m, 2) for m in lesions]).astype(np.float32)
    scores = score_maps(perfect, images, lesions)
    assert scores["pixel_auc"] == pytest.approx(1, abs=1e-6)
    assert scores["pointing"] == 1
    assert score_maps(np.full_like(perfect, 0.3), images, lesions)["pixel_auc"] == pytest.approx(0.5)
    assert score_maps(np.full_like(perfect, 0.3), images, lesions)["relevance_over_chance"] == pytest.approx(1)
    assert score_maps(1 - perfect, images, lesions)["pixel_auc"] == pytest.approx(0, abs=1e-6)


def test_the_controls_expose_a_map_that_ignores_the_photograph() -> None:
    images, lesions = _lesion()
    same = np.broadcast_to(lesions[0].astype(np.float32), lesions.shape)
    report = saliency_report(same, images, lesions)
    assert report["controls"]["mean_map"]["pixel_auc"] == pytest.approx(report["pixel_auc"])
    assert report["controls"]["other_photograph"]["pixel_auc"] == pytest.approx(report["pixel_auc"])


def test_pointing_allows_its_tolerance_and_not_more() -> None:
    lesion, visible = np.zeros((64, 64), bool), np.ones((64, 64), bool)
    lesion[32, 32] = True
    for distance, hit in ((0, True), (8, True), (9, False)):
        saliency = np.zeros((64, 64), np.float32)
        saliency[32, 32 + distance] = 1
        assert pointing(saliency, lesion, visible, 8) == hit
    assert pointing(np.zeros((64, 64), np.float32), np.zeros((64, 64), bool), visible, 8) is None
