"""Calibration and a sealed threshold: cases whose answer can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtex_edge.contract import OperatingPoint
from medtex_edge.train.metrics.calibration import calibration, ece
from medtex_edge.train.metrics.classification import answer_table, quadratic_kappa, roc
from medtex_edge.train.metrics.intervals import kappa_interval, proportion
from medtex_edge.train.metrics.operating_point import at_threshold

POINT = OperatingPoint(0.5, 0.9, 0.95, (0.8, 0.99), 0.9, (0.8, 0.95), 20, 40)


def test_what_happens_as_often_as_it_was_predicted_is_calibrated() -> None:
    confidence = np.repeat([0.5, 0.75], 40)
    correct = np.tile([1.0, 0.0], 20).tolist() + np.tile([1.0, 1.0, 1.0, 0.0], 10).tolist()
    assert ece(confidence, np.array(correct), 2) == pytest.approx(0)


def test_sure_and_wrong_is_the_worst_calibration() -> None:
    table = calibration(np.tile([1.0, 0.0], (30, 1)), np.ones(30, np.int64))
    assert table["ece"] == pytest.approx(1)
    assert table["brier"] == pytest.approx(2)
    assert np.isfinite(table["nll"])
    assert table["nll"] > 20
    assert table["ece_interval"] == pytest.approx([1, 1])


def test_a_known_gap_is_found_with_its_bins() -> None:
    # 40 answers at 0.9, of which half are right.
    probabilities = np.tile([0.9, 0.1], (40, 1))
    table = calibration(probabilities, np.tile([0, 1], 20))
    assert table["ece"] == pytest.approx(0.4)
    assert sum(b["count"] for b in table["bins"]) == 40
    assert table["nll"] == pytest.approx(-(np.log(0.9) + np.log(0.1)) / 2)
    assert table["brier"] == pytest.approx((0.02 + 1.62) / 2)
    low, high = table["ece_interval"]
    assert low <= 0.4 <= high


@given(st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=15)
def test_every_photograph_is_in_one_bin_and_the_value_in_its_interval(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    table = calibration(probabilities, rng.integers(0, 3, n))
    assert sum(b["count"] for b in table["bins"]) == n
    assert table["ece_interval"][0] <= table["ece"] <= 1
    assert all(b["low"] <= b["confidence"] <= b["high"] for b in table["bins"])


def test_the_sealed_threshold_is_applied_and_never_fitted() -> None:
    scores = np.array([0.9, 0.6, 0.4, 0.2, 0.55, 0.1])
    truth = np.array([True, True, True, True, False, False])
    found = at_threshold(scores, truth, POINT)
    assert found["threshold"] == POINT.threshold
    assert found["sensitivity"] == 0.5
    assert found["specificity"] == 0.5
    assert found["sensitivity_interval"][0] < 0.5 < found["sensitivity_interval"][1]


def test_a_score_on_the_threshold_is_referable_as_on_the_device() -> None:
    point = OperatingPoint(0.1, 0.9, 0.95, (0.8, 0.99), 0.9, (0.8, 0.95), 20, 40)
    assert at_threshold(np.array([0.1], np.float32), np.array([True]), point)["sensitivity"] == 1


def test_what_cannot_be_measured_is_none() -> None:
    found = at_threshold(np.array([0.9, 0.2]), np.array([True, True]), POINT)
    assert found["specificity"] is None
    assert found["specificity_interval"] is None
    assert roc(np.array([0.9, 0.2]), np.array([True, True])) is None
    assert proportion(np.zeros(0, np.bool_)) == {"value": None, "interval": None, "n": 0}
    assert kappa_interval([[5, 0], [0, 0]]) is None


def test_the_interval_of_kappa_holds_its_value() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 100)
    predicted = np.clip(labels + rng.integers(-1, 2, 100), 0, 3)
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, predicted), 1)
    kappa, interval = quadratic_kappa(predicted, labels, 4), kappa_interval(confusion.tolist())
    assert kappa is not None
    assert interval is not None
    assert interval[0] < kappa < interval[1]
    assert interval[1] - interval[0] < 0.3
    perfect = kappa_interval(np.diag([10, 10, 10]).tolist())
    assert perfect == [1, 1]


def test_a_models_table_is_json_and_its_curve_runs_from_corner_to_corner() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 50)
    table = answer_table(rng.dirichlet(np.ones(3), 50), labels, (1, 2), ordered=True, point=None)
    assert (table["roc"]["fpr"][0], table["roc"]["tpr"][0]) == (0, 0)
    assert (table["roc"]["fpr"][-1], table["roc"]["tpr"][-1]) == (1, 1)
    assert table["operating_point"] is None
    assert table["qwk_interval"][0] <= table["qwk"] <= table["qwk_interval"][1]
