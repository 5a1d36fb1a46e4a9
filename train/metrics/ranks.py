"""Measures of order alone: the AUC by ranks and Spearman's correlation. Ties have their mean rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]


def rank_auc(scores: Floats, truth: Bools) -> float:
    """The AUC, in 0..1, of scores (N,) for truth (N,), both classes present (Mann & Whitney 1947).

    For the thousands of AUCs of a bootstrap and the thousands of pixels of a map: scikit-learn's takes 1 ms.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    wins = rankdata(scores)[truth].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Spearman's correlation, in -1..1, of two arrays of one shape; None where one of them is flat.

    Exactly 1 for the same order, on which the bounds of an export rely; `scipy.stats.spearmanr` gives 1 - 2e-16.
    """
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / norm) if norm > 0 else None
