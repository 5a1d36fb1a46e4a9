"""What a probability is worth: calibration, the sealed threshold on other photographs, and the table of one model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from medtex_edge.contract import OperatingPoint
from medtex_edge.train.metrics.classification import answer_metrics, proportion_interval

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_BINS = 10
PER_BIN = 8  # photographs; in smaller bins a gap is mostly chance
REPEATS = 1000  # of a bootstrap
LEAST = 1e-12  # a probability is not taken to be smaller: one certain mistake would make the NLL infinite


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


def calibration(probabilities: Floats, labels: Ints, *, seed: int = 0) -> dict[str, Any]:
    """ECE with interval and bins, negative log-likelihood (nats) and Brier score of (N, C) against labels (N,).

    Expected calibration error (Guo et al., ICML 2017) of the most probable class, in bins of equal mass rather than
    equal width: at 80 photographs most bins of equal width are empty. Brier's score is the sum over the classes
    (Brier 1950), 0..2. The interval is a 95 % percentile bootstrap; resampling adds noise of its own to every gap,
    so it leans high, and its lower end is never above the value.
    """
    n = len(labels)
    confidence, correct = probabilities.max(1).astype(float), (probabilities.argmax(1) == labels).astype(float)
    count = int(np.clip(n // PER_BIN, 1, MAX_BINS))
    value = ece(confidence, correct, count)
    rng = np.random.default_rng(seed)
    drawn = [ece(confidence[i], correct[i], count) for i in rng.integers(0, n, (REPEATS, n))]
    low, high = np.percentile(drawn, [2.5, 97.5])
    chosen = np.clip(probabilities[np.arange(n), labels].astype(float), LEAST, 1)
    truth = np.eye(probabilities.shape[1])[labels]
    return {
        "ece": value,
        "ece_interval": [min(float(low), value), float(high)],
        "nll": float(-np.log(chosen).mean()),
        "brier": float(((probabilities - truth) ** 2).sum(1).mean()),
        "bins": [
            {
                "low": float(confidence[b].min()),
                "high": float(confidence[b].max()),
                "confidence": float(confidence[b].mean()),
                "accuracy": float(correct[b].mean()),
                "count": len(b),
            }
            for b in _bins(confidence, count)
        ],
    }


def ece(confidence: Floats, correct: Floats, bins: int) -> float:
    """Mean of |accuracy - confidence| over bins of equal mass, weighted by their photographs: (N,), (N,) -> 0..1."""
    parts = _bins(confidence, bins)
    gaps = [abs(float(correct[b].mean()) - float(confidence[b].mean())) * len(b) for b in parts]
    return float(sum(gaps) / len(confidence))


def _bins(confidence: Floats, count: int) -> list[Ints]:
    """Indices in `count` parts of equal size by rising confidence."""
    return [part for part in np.array_split(np.argsort(confidence, kind="stable"), count) if len(part)]


def at_threshold(scores: Floats, truth: Bools, point: OperatingPoint) -> dict[str, Any]:
    """What a threshold that was fixed elsewhere does here: scores (N,), truth (N,). Never fitted on these again.

    None where there are no photographs of that kind; intervals are 95 % (Clopper-Pearson).
    """
    said = scores.astype(np.float32) >= np.float32(point.threshold)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    hits, rejected = int((said & truth).sum()), int((~said & ~truth).sum())
    return {
        "threshold": point.threshold,
        "target_sensitivity": point.target_sensitivity,
        "sensitivity": hits / positives if positives else None,
        "sensitivity_interval": list(proportion_interval(hits, positives)) if positives else None,
        "specificity": rejected / negatives if negatives else None,
        "specificity_interval": list(proportion_interval(rejected, negatives)) if negatives else None,
        "positives": positives,
        "negatives": negatives,
    }


def roc(scores: Floats, truth: Bools) -> dict[str, list[float]] | None:
    """The corners of the ROC curve, from (0, 0) to (1, 1); None where only one kind is there."""
    if truth.all() or not truth.any():
        return None
    fpr, tpr, _ = roc_curve(truth, scores)
    return {"fpr": [float(v) for v in fpr], "tpr": [float(v) for v in tpr]}


def kappa_interval(confusion: list[list[int]], *, seed: int = 0) -> list[float] | None:
    """95 % percentile bootstrap interval of the quadratic kappa, from its confusion matrix (C, C).

    To resample photographs is to draw the cells of their table anew; None where kappa is undefined.
    """
    cells = np.array(confusion, float)
    n, classes = int(cells.sum()), len(cells)
    grades = np.arange(classes)
    weights = (grades[:, None] - grades[None]) ** 2
    drawn = np.random.default_rng(seed).multinomial(n, (cells / n).ravel(), REPEATS).reshape(-1, classes, classes)
    observed = (drawn * weights).sum((1, 2))
    expected = (drawn.sum(2)[:, :, None] * drawn.sum(1)[:, None] * weights).sum((1, 2)) / n
    values = 1 - observed[expected > 0] / expected[expected > 0]
    # A resample of one class alone has no kappa; where most are such, neither has the table.
    if len(values) < REPEATS // 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def share(agree: Bools) -> dict[str, Any]:
    """A proportion with its exact interval: agree (N,) -> {"value", "interval", "n"}."""
    hits, n = int(agree.sum()), len(agree)
    return {"value": hits / n if n else None, "interval": list(proportion_interval(hits, n)) if n else None, "n": n}
