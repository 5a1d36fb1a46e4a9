"""Golden vectors: a device recomputes the bundle's own examples at every start; where they drift it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medtex_edge.errors import BundleError
from medtex_edge.runtime.backend import Backend

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

PROBABILITY_BOUND = 0.02  # largest difference of any class probability
SALIENCY_BOUND = 0.02  # mean absolute difference of any one map
# In eight bits the model itself differs by more from the trained one, whose answers the vectors are.
_BOUNDS = {"int8": (0.05, 0.03)}


def bounds(precision: str) -> tuple[float, float]:
    """The largest allowed difference of a probability, and of a map on average, for a graph of that precision."""
    return _BOUNDS.get(precision, (PROBABILITY_BOUND, SALIENCY_BOUND))


@dataclass(frozen=True)
class Drift:
    """The largest differences against the golden vectors, over `count` images."""

    count: int
    probability: float
    saliency: float


def check_golden(backend: Backend, bundle: Bundle, precision: str = "fp32") -> Drift:
    """Recompute the bundle's golden vectors on a backend of that precision.

    Raises `BundleError` with the differences where they drift.
    """
    golden = bundle.golden
    probability = saliency = 0.0
    for index in range(len(golden.images)):
        # One at a time, as frames come: a graph may be built for a batch of one.
        outputs = backend.infer(golden.images[index : index + 1])
        probability = max(probability, float(np.abs(outputs.probabilities[0] - golden.probabilities[index]).max()))
        saliency = max(saliency, float(np.abs(outputs.saliency[0] - golden.saliency[index]).mean()))
    highest, widest = bounds(precision)
    if not (probability <= highest and saliency <= widest):
        raise BundleError(
            f"{bundle.path}: this device ({backend.name}) does not give the answers that the bundle was "
            f"sealed with: probabilities differ by up to {probability:.3g} (bound {highest:g}), "
            f"saliency by {saliency:.3g} on average (bound {widest:g})",
            hint="try --precision fp32 or another --backend; if that fails too, this engine must not be used",
        )
    return Drift(len(golden.images), probability, saliency)
