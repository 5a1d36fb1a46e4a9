"""The average of readings over time, weighted by their age, so that a verdict does not flicker."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LIVE_S = 0.3  # seconds after which a frame counts for 1/e; about ten frames of a camera
LONGEST_GAP_S = 1.0  # between two frames; after a longer gap the earlier frames are dropped

F32 = npt.NDArray[np.float32]


class Smoother:
    """An exponentially weighted mean of probabilities and saliency, with a time constant in `seconds`; 0: no mean."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._weight = 0.0
        self._means: tuple[F32, F32] | None = None

    def reset(self) -> None:
        """Forget every frame: the scene has changed."""
        self._weight = 0.0

    def add(self, probabilities: F32, saliency: F32, seconds: float) -> tuple[F32, F32, float]:
        """(C,) probabilities and (h, w) saliency of a frame, `seconds` after the frame before -> (means, weight).

        Returns copies of both means, and the effective number of frames in them. A mean of probabilities sums to one
        again, and a mean of maps in 0..1 lies in 0..1.
        """
        if self._means is None:
            self._means = (np.zeros_like(probabilities), np.zeros_like(saliency))
        off = self._seconds <= 0 or not 0 <= seconds <= LONGEST_GAP_S
        self._weight = 1.0 if off else 1.0 + self._weight * math.exp(-seconds / self._seconds)
        for mean, new in zip(self._means, (probabilities, saliency), strict=True):
            mean += (new - mean) / np.float32(self._weight)
        return self._means[0].copy(), self._means[1].copy(), self._weight
