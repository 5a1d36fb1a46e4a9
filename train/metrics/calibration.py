"""Calibration: the temperature that makes probabilities mean what they state, and how far they are from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.train.metrics.intervals import percentile_interval

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

MAX_BINS = 10
PER_BIN = 8  # photographs; in smaller bins a gap is mostly chance
REPEATS = 1000  # of the bootstrap
LEAST = 1e-12  # a probability is not taken to be smaller: one certain mistake would make the NLL infinite


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
    low, high = percentile_interval(drawn)
    chosen = np.clip(probabilities[np.arange(n), labels].astype(float), LEAST, 1)
    truth = np.eye(probabilities.shape[1])[labels]
    return {
        "ece": value,
        "ece_interval": [min(low, value), high],
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
