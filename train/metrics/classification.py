"""Measures of classification: AUC, accuracy, kappa and the ROC curve, each with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import cohen_kappa_score, confusion_matrix, roc_auc_score, roc_curve

from medtex_edge.contract import OperatingPoint
from medtex_edge.train.metrics.calibration import calibration
from medtex_edge.train.metrics.intervals import auc_interval, auc_macro_interval, kappa_interval, proportion_interval
from medtex_edge.train.metrics.operating_point import at_threshold

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def auc(scores: Floats, truth: Bools) -> float | None:
    """Area under the ROC curve, () in 0..1; None where only one class is there. Both inputs are (N,).

    Scikit-learn's trapezoids: `ranks.rank_auc` differs in the last bit, and these are in every `metrics.json`.
    """
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, scores))


def auc_macro(probabilities: Floats, labels: Ints) -> float | None:
    """Mean of the one-against-the-rest AUCs of the classes (MedMNIST's AUC, Yang et al. 2023): (N, C), (N,) -> 0..1.

    A class without photographs has no AUC and does not count; None where but one class is there.
    """
    values = [auc(probabilities[:, c], labels == c) for c in np.unique(labels)]
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def quadratic_kappa(predicted: Ints, labels: Ints, classes: int) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968); None where labels and answers are all of one class."""
    if len(np.unique(np.concatenate([predicted, labels]))) < 2:
        return None
    return float(cohen_kappa_score(labels, predicted, weights="quadratic", labels=list(range(classes))))


def roc(scores: Floats, truth: Bools) -> dict[str, list[float]] | None:
    """The corners of the ROC curve, from (0, 0) to (1, 1); None where only one kind is there."""
    if truth.all() or not truth.any():
        return None
    fpr, tpr, _ = roc_curve(truth, scores)
    return {"fpr": [float(v) for v in fpr], "tpr": [float(v) for v in tpr]}


def answer_metrics(probabilities: Floats, labels: Ints, referable: tuple[int, ...], *, ordered: bool) -> dict[str, Any]:
    """Measures of probabilities (N, C) against labels (N,): JSON-ready, None where undefined."""
    scores, truth = probabilities[:, list(referable)].sum(1), np.isin(labels, referable)
    predicted = probabilities.argmax(1)
    correct = int((predicted == labels).sum())
    result: dict[str, Any] = {
        "auc_referable": auc(scores, truth),
        "auc_referable_interval": auc_interval(scores, truth),
        "auc_macro": auc_macro(probabilities, labels),
        "auc_macro_interval": auc_macro_interval(probabilities, labels),
        "accuracy": correct / len(labels),
        "accuracy_interval": proportion_interval(correct, len(labels)),
        "qwk": quadratic_kappa(predicted, labels, probabilities.shape[1]) if ordered else None,
        "n": len(labels),
        "positives": int(truth.sum()),
        "confusion": confusion_matrix(labels, predicted, labels=range(probabilities.shape[1])).tolist(),
    }
    return result


def answer_table(
    probabilities: Floats, labels: Ints, referable: tuple[int, ...], *, ordered: bool, point: OperatingPoint | None
) -> dict[str, Any]:
    """Everything that is measured of one model's answers: `answer_metrics`, the sealed operating point, calibration
    and the ROC curve. probabilities (N, C), labels (N,) without -1; JSON-ready, None where undefined."""
    scores, truth = probabilities[:, list(referable)].sum(1), np.isin(labels, referable)
    table = answer_metrics(probabilities, labels, referable, ordered=ordered)
    table["qwk_interval"] = kappa_interval(table["confusion"]) if ordered else None
    table["operating_point"] = None if point is None else at_threshold(scores, truth, point)
    table["calibration"] = calibration(probabilities, labels)
    table["roc"] = roc(scores, truth)
    return table
