"""Answers over time: each frame's, weighted by how long ago it was, so that a verdict does not flicker."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LIVE_S = 0.3  # seconds after which a frame counts for 1/e; about ten frames of a camera
LONGEST_GAP_S = 1.0  # after it, what was seen before says nothing

F32 = npt.NDArray[np.float32]


class Smoother:
    """An exponentially weighted mean of probabilities and saliency, begun anew by `reset`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._weight = 0.0
        self._means: tuple[F32, F32] | None = None

    def reset(self) -> None:
        """Forget every frame: the scene has changed."""
        self._weight = 0.0

    def add(self, probabilities: F32, saliency: F32, seconds: float) -> tuple[F32, F32, float]:
        """(C,) and (h, w) of a frame, `seconds` after the one before -> the means, and of how many frames they speak.

        What is returned is the caller's own. A mean of probabilities is one, and a mean of maps in 0..1 too.
        """
        if self._means is None:
            self._means = (np.zeros_like(probabilities), np.zeros_like(saliency))
        off = self._seconds <= 0 or not 0 <= seconds <= LONGEST_GAP_S
        self._weight = 1.0 if off else 1.0 + self._weight * math.exp(-seconds / self._seconds)
        for mean, new in zip(self._means, (probabilities, saliency), strict=True):
            mean += (new - mean) / np.float32(self._weight)
        return self._means[0].copy(), self._means[1].copy(), self._weight
