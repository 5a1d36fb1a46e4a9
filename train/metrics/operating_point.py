"""The operating point: the threshold that reaches a wanted sensitivity, and what a fixed threshold does elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import OperatingPoint
from medtex_edge.train.metrics.intervals import proportion_interval

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]


def choose_operating_point(scores: Floats, truth: Bools, target: float) -> OperatingPoint:
    """The highest threshold whose sensitivity on these photographs reaches `target`: scores (N,), truth (N,).

    The threshold lies half-way to the next lower score, so that the photograph which sets it is not on the edge.
    Without positives nothing can be fixed: the threshold is then 0.5 and the intervals are all of 0..1.
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


def at_threshold(scores: Floats, truth: Bools, point: OperatingPoint) -> dict[str, Any]:
    """What a threshold that was fixed elsewhere does here: scores (N,), truth (N,). Never fitted on these again.

    None where there are no photographs of that kind; intervals are 95 % (Clopper-Pearson).
    """
    predicted = scores.astype(np.float32) >= np.float32(point.threshold)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    hits, rejected = int((predicted & truth).sum()), int((~predicted & ~truth).sum())
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
