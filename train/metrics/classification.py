"""Measures of the answer, each with its interval: with 80 photographs one photograph moves 1.25 points."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import cohen_kappa_score, confusion_matrix, roc_auc_score

from medtex_edge.contract import OperatingPoint

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def auc(scores: Floats, truth: Bools) -> float | None:
    """Area under the ROC curve, () in 0..1; None where only one class is there. Both inputs are (N,)."""
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, scores))


def auc_interval(scores: Floats, truth: Bools, *, repeats: int = 2000, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the AUC, positives and negatives resampled apart (Efron 1979)."""
    if truth.all() or not truth.any():
        return None
    rng = np.random.default_rng(seed)
    positive, negative = scores[truth], scores[~truth]
    # The Mann-Whitney form: once every pair is compared, a resample is a weighted sum of the same comparisons.
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    a = rng.multinomial(len(positive), np.full(len(positive), 1 / len(positive)), size=repeats) / len(positive)
    b = rng.multinomial(len(negative), np.full(len(negative), 1 / len(negative)), size=repeats) / len(negative)
    values = np.einsum("rp,pn,rn->r", a, wins, b, optimize=True)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def auc_macro(probabilities: Floats, labels: Ints) -> float | None:
    """Mean of the one-against-the-rest AUCs of the classes (MedMNIST's AUC, Yang et al. 2023): (N, C), (N,) -> 0..1.

    A class without photographs has no AUC and does not count; None where but one class is there.
    """
    values = [auc(probabilities[:, c], labels == c) for c in np.unique(labels)]
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def auc_macro_interval(
    probabilities: Floats, labels: Ints, *, repeats: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of `auc_macro`, each class resampled apart (Efron 1979)."""
    there = np.unique(labels)
    if len(there) < 2:
        return None
    rng = np.random.default_rng(seed)
    counts = np.zeros((repeats, len(labels)))
    for c in there:
        size = int((labels == c).sum())
        counts[:, labels == c] = rng.multinomial(size, np.full(size, 1 / size), size=repeats)
    values = []
    for c in there:
        scores, own = probabilities[:, c], labels == c
        wins = (scores[own][:, None] > scores[~own]) + 0.5 * (scores[own][:, None] == scores[~own])
        pairs = own.sum() * (~own).sum()
        values.append(np.einsum("rp,pn,rn->r", counts[:, own], wins, counts[:, ~own], optimize=True) / pairs)
    low, high = np.percentile(np.mean(values, axis=0), [2.5, 97.5])
    return float(low), float(high)


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


def quadratic_kappa(predicted: Ints, labels: Ints, classes: int) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968); None where one class alone was seen and said."""
    if len(np.unique(np.concatenate([predicted, labels]))) < 2:
        return None
    return float(cohen_kappa_score(labels, predicted, weights="quadratic", labels=list(range(classes))))


def proportion_interval(successes: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a proportion (exact, conservative)."""
    if total == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, total - successes + 1))
    high = 1.0 if successes == total else float(stats.beta.ppf(1 - tail, successes + 1, total - successes))
    return low, high


def operating_point(scores: Floats, truth: Bools, target: float) -> OperatingPoint:
    """The highest threshold whose sensitivity on these photographs reaches `target`: scores (N,), truth (N,).

    The threshold lies half-way to the next lower score, so that the photograph which sets it is not on the edge.
    Without positives nothing can be fixed: the threshold is then 0.5 and the intervals say that nothing is known.
    """
    positive, negative = np.sort(scores[truth])[::-1].astype(float), scores[~truth].astype(float)
    threshold = 0.5
    if len(positive):
        needed = max(int(np.ceil(target * len(positive) - 1e-9)), 1)
        edge = float(positive[needed - 1])
        lower = scores[scores < edge].astype(float)
        threshold = (edge + float(lower.max())) / 2 if len(lower) else edge
    # Rounded down: a threshold is compared in float32 on the device.
    threshold = float(np.clip(np.floor(threshold * 1e6) / 1e6, 0, 1))
    hits, rejected = int((positive >= threshold).sum()), int((negative < threshold).sum())
    return OperatingPoint(
        threshold=threshold,
        target_sensitivity=target,
        sensitivity=hits / len(positive) if len(positive) else 0.0,
        sensitivity_interval=proportion_interval(hits, len(positive)),
        specificity=rejected / len(negative) if len(negative) else 0.0,
        specificity_interval=proportion_interval(rejected, len(negative)),
        positives=len(positive),
        negatives=len(negative),
    )


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature in 0.25..10 that minimises the negative log-likelihood (Guo et al., ICML 2017).

    logits (N, C), labels (N,); 1.0 where there are no labels. A grid, since the curve is smooth in one variable.
    """
    if not len(labels):
        return 1.0
    grid = np.exp(np.linspace(np.log(0.25), np.log(10), 400))
    scaled = logits[None].astype(np.float64) / grid[:, None, None]
    scaled -= scaled.max(axis=2, keepdims=True)
    chosen = np.take_along_axis(scaled, np.broadcast_to(labels, (len(grid), len(labels)))[..., None], axis=2)[..., 0]
    nll = (np.log(np.exp(scaled).sum(axis=2)) - chosen).mean(axis=1)
    return round(float(grid[int(nll.argmin())]), 4)
