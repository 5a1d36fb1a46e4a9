"""Temperature and threshold for every kind of classes: two, grades from a chosen one on, and classes without order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.train.loop.predict import softmax
from medtex_edge.train.metrics.calibration import fit_temperature
from medtex_edge.train.metrics.classification import answer_metrics
from medtex_edge.train.metrics.operating_point import choose_operating_point
from medtex_edge.train.prepare import referable_classes


class Kind(NamedTuple):
    classes: tuple[str, ...]
    ordered: bool
    wanted: str
    referable: tuple[int, ...]


GRADES = ("0", "1", "2", "3", "4")
KINDS = {
    "two classes": Kind(("normal", "ill"), False, "ill", (1,)),
    "grades": Kind(GRADES, True, "", (2, 3, 4)),
    "grades from 3": Kind(GRADES, True, "3+", (3, 4)),
    "no order, all but the first": Kind(("normal", "amd", "dme", "rvo"), False, "amd,dme,rvo", (1, 2, 3)),
    "no order, two of them": Kind(("amd", "dme", "normal", "rvo"), False, "rvo,amd", (0, 3)),
}


def _answers(kind: Kind, sureness: float, count: int = 600) -> tuple[Any, npt.NDArray[np.int64]]:
    """Logits of a model that is calibrated but for its sureness, and labels drawn from what it truly believes."""
    rng = np.random.default_rng(5)
    honest = rng.normal(0, 1.5, (count, len(kind.classes))).astype(np.float32)
    chances = softmax(honest)
    labels = np.array([rng.choice(len(kind.classes), p=p / p.sum()) for p in chances.astype(np.float64)])
    return honest * sureness, labels


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("sureness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_models_sureness(name: str, sureness: float) -> None:
    logits, labels = _answers(KINDS[name], sureness)
    assert fit_temperature(logits, labels) == pytest.approx(sureness, rel=0.2)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("target", [0.8, 0.9, 1.0])
def test_the_verdict_of_the_referable_classes_reaches_the_wanted_sensitivity(name: str, target: float) -> None:
    kind = KINDS[name]
    referable = referable_classes(kind.classes, kind.ordered, kind.wanted)
    assert referable == kind.referable
    logits, labels = _answers(kind, 2.0)
    probabilities = softmax(logits / fit_temperature(logits, labels))
    scores, truth = probabilities[:, list(referable)].sum(1), np.isin(labels, referable)
    point = choose_operating_point(scores, truth, target)
    referred = scores >= point.threshold
    assert (referred & truth).sum() / truth.sum() == pytest.approx(point.sensitivity)
    assert (~referred & ~truth).sum() / (~truth).sum() == pytest.approx(point.specificity)
    assert target <= point.sensitivity < target + 0.02
    assert point.sensitivity_interval[0] <= point.sensitivity <= point.sensitivity_interval[1]
    assert (point.positives, point.negatives) == (int(truth.sum()), int((~truth).sum()))


@pytest.mark.parametrize("name", KINDS)
def test_kappa_is_for_grades_and_the_auc_for_all(name: str) -> None:
    kind = KINDS[name]
    logits, labels = _answers(kind, 1.0)
    metrics = answer_metrics(softmax(logits), labels, kind.referable, ordered=kind.ordered)
    assert (metrics["qwk"] is not None) == kind.ordered
    assert 0.6 < metrics["auc_referable"] < 1


def test_a_temperature_moves_no_label_but_may_move_a_verdict_so_it_comes_first() -> None:
    logits = np.array([[2.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0]], np.float32)
    cold, hot = softmax(logits), softmax(logits / 4)
    assert (cold.argmax(1) == hot.argmax(1)).all()
    assert cold[0, 2:].sum() < 0.3 < hot[0, 2:].sum()


def test_labels_of_one_class_still_give_a_point_whose_intervals_are_as_wide_as_its_ignorance() -> None:
    scores = np.linspace(0.1, 0.9, 9, dtype=np.float32)
    none = choose_operating_point(scores, np.zeros(9, bool), 0.9)
    assert (none.threshold, none.positives, none.sensitivity_interval) == (0.5, 0, (0.0, 1.0))
    every = choose_operating_point(scores, np.ones(9, bool), 0.9)
    assert every.sensitivity >= 0.9
    assert every.specificity_interval == (0.0, 1.0)
