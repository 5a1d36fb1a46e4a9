"""Measures of order alone: the AUC by ranks and Spearman's correlation. Ties have their mean rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr

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
    """Spearman's correlation, in -1..1, of two arrays of one shape; None where one of them is flat."""
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a.ravel(), b.ravel()).statistic)
