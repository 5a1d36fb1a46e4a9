"""Every 95 % confidence interval of the project: with 80 photographs one photograph moves a figure 1.25 points.

proportions  Clopper & Pearson (1934), exact
means        BCa bootstrap over photographs (Efron 1987)
others       percentile bootstrap (Efron 1979), positives and negatives or classes resampled apart
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
REPEATS = 2000  # of a bootstrap
LEVEL = 0.95


def percentile_interval(values: Any) -> tuple[float, float]:
    """The middle 95 % of a bootstrap's values (R,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


# --- proportions


def proportion_interval(successes: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Clopper-Pearson interval of a proportion (exact, conservative); (0, 1) of nothing.

    By quantiles of the beta distribution: `scipy.stats.binomtest` searches for the same bounds and differs in the last
    bits, and these are in every `metrics.json` that was written.
    """
    if total == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, total - successes + 1))
    high = 1.0 if successes == total else float(stats.beta.ppf(1 - tail, successes + 1, total - successes))
    return low, high


def proportion(successes: Bools) -> dict[str, Any]:
    """A proportion with its interval: successes (N,) -> {"value", "interval", "n"}, None where N is 0."""
    hits, n = int(successes.sum()), len(successes)
    return {"value": hits / n if n else None, "interval": list(proportion_interval(hits, n)) if n else None, "n": n}


# --- means


def bootstrap_mean(values: Floats, *, repeats: int = REPEATS, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """The mean of (N,) values and its 95 % BCa bootstrap interval over photographs (Efron 1987).

    Photographs where the measure is not defined are NaN and left out. For two methods on the same photographs give
    the differences: the interval is then the paired one. Where all values are equal the interval is that value. Raises
    `ValueError` where nothing is left.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        raise ValueError("no photograph has a value")
    mean = float(known.mean())
    if np.ptp(known) == 0:
        return mean, (mean, mean)
    found = stats.bootstrap(
        (known,), np.mean, n_resamples=repeats, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    return mean, (float(found.low), float(found.high))


def measured(values: Floats) -> dict[str, Any] | None:
    """(N,) values, NaN where not defined -> {"value", "interval", "n"} for a report; None where nothing is known."""
    count = int((~np.isnan(np.asarray(values, np.float64))).sum())
    if not count:
        return None
    value, interval = bootstrap_mean(values)
    return {"value": value, "interval": list(interval), "n": count}


# --- areas under the ROC curve


def auc_interval(scores: Floats, truth: Bools, *, repeats: int = REPEATS, seed: int = 0) -> tuple[float, float] | None:
    """Interval of the AUC of scores (N,) for truth (N,), positives and negatives resampled apart."""
    if truth.all() or not truth.any():
        return None
    rng = np.random.default_rng(seed)
    positive, negative = scores[truth], scores[~truth]
    # The Mann-Whitney form: once every pair is compared, a resample is a weighted sum of the same comparisons.
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    a = rng.multinomial(len(positive), np.full(len(positive), 1 / len(positive)), size=repeats) / len(positive)
    b = rng.multinomial(len(negative), np.full(len(negative), 1 / len(negative)), size=repeats) / len(negative)
    return percentile_interval(np.einsum("rp,pn,rn->r", a, wins, b, optimize=True))


def auc_macro_interval(
    probabilities: Floats, labels: Ints, *, repeats: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Interval of `auc_macro`, each class resampled apart; None where only one class is there."""
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
    return percentile_interval(np.mean(values, axis=0))


def stratified_interval(
    measure: Callable[[Ints], float], truth: Bools, rng: np.random.Generator, *, repeats: int = 1000
) -> tuple[float, float]:
    """Interval of any `measure(indices)` of photographs, positives and negatives of `truth` (N,) resampled apart."""
    yes, no = np.flatnonzero(truth), np.flatnonzero(~truth)
    resamples = (np.concatenate([rng.choice(yes, len(yes)), rng.choice(no, len(no))]) for _ in range(repeats))
    return percentile_interval([measure(chosen) for chosen in resamples])


# --- kappa


def kappa_interval(confusion: list[list[int]], *, repeats: int = 1000, seed: int = 0) -> list[float] | None:
    """Interval of the quadratic kappa, from its confusion matrix (C, C); None where kappa is undefined.

    To resample photographs is to draw the cells of their table anew.
    """
    cells = np.array(confusion, float)
    n, classes = int(cells.sum()), len(cells)
    grades = np.arange(classes)
    weights = (grades[:, None] - grades[None]) ** 2
    drawn = np.random.default_rng(seed).multinomial(n, (cells / n).ravel(), repeats).reshape(-1, classes, classes)
    observed = (drawn * weights).sum((1, 2))
    expected = (drawn.sum(2)[:, :, None] * drawn.sum(1)[:, None] * weights).sum((1, 2)) / n
    values = 1 - observed[expected > 0] / expected[expected > 0]
    # A resample of one class alone has no kappa; where most are such, neither has the table.
    return list(percentile_interval(values)) if len(values) >= repeats // 2 else None
