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


@dataclass(frozen=True)
class Drift:
    """The largest differences against the golden vectors, over `count` images."""

    count: int
    probability: float
    saliency: float


def check_golden(backend: Backend, bundle: Bundle) -> Drift:
    """Recompute the bundle's golden vectors. Raises `BundleError` with the differences where they drift."""
    golden = bundle.golden
    probability = saliency = 0.0
    for index in range(len(golden.images)):
        # One at a time, as frames come: a graph may be built for a batch of one.
        outputs = backend.infer(golden.images[index : index + 1])
        probability = max(probability, float(np.abs(outputs.probabilities[0] - golden.probabilities[index]).max()))
        saliency = max(saliency, float(np.abs(outputs.saliency[0] - golden.saliency[index]).mean()))
    if not (probability <= PROBABILITY_BOUND and saliency <= SALIENCY_BOUND):
        raise BundleError(
            f"{bundle.path}: this device ({backend.name}) does not give the answers that the bundle was "
            f"sealed with: probabilities differ by up to {probability:.3g} (bound {PROBABILITY_BOUND:g}), "
            f"saliency by {saliency:.3g} on average (bound {SALIENCY_BOUND:g})",
            hint="try --precision fp32 or another --backend; if that fails too, this engine must not be used",
        )
    return Drift(len(golden.images), probability, saliency)
