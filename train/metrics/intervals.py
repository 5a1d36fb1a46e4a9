"""Means over photographs with their intervals: a measure without one says little on a few dozen photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
REPEATS = 2000
LEVEL = 0.95


def bootstrap_mean(values: Floats, *, repeats: int = REPEATS, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """The mean of (N,) values and its 95 % percentile bootstrap interval over photographs (Efron 1979).

    Photographs where the measure is not defined are NaN and left out. For two methods on the same photographs give
    the differences: the interval is then the paired one. Raises `ValueError` where nothing is left.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        raise ValueError("no photograph has a value")
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), size=repeats)
    low, high = np.percentile(counts @ known / len(known), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(known.mean()), (float(low), float(high))


def measured(values: Floats) -> dict[str, Any] | None:
    """(N,) values, NaN where not defined -> {"value", "interval", "n"} for a report; None where nothing is known."""
    count = int((~np.isnan(np.asarray(values, np.float64))).sum())
    if not count:
        return None
    value, interval = bootstrap_mean(values)
    return {"value": value, "interval": list(interval), "n": count}
