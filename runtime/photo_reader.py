"""Reads single photographs with one backend, from any thread; for programs and for the page's `POST /read`."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract
from medtex_edge.runtime.backend import Backend
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer


class PhotoReader:
    """Scores photographs as `medtex-edge run --source` does. Thread-safe: a lock admits one caller at a time.

    The backend stays the caller's, who closes it. `score` lets another scorer share the backend under the same lock.
    """

    def __init__(self, backend: Backend, contract: Contract) -> None:
        self._lock = threading.Lock()
        self._scorer = Scorer(backend, contract)

    def read(self, image: npt.NDArray[np.uint8], name: str, read_ms: float = 0.0) -> tuple[Reading, Pixels]:
        """(H, W, 3) uint8 RGB -> its reading, and the same picture as BGR, which is what overlays are drawn into.

        `name` becomes the reading's source, `read_ms` is how long the photograph took to decode. Raises
        `BackendError`.
        """
        captured = time.monotonic() - read_ms / 1e3
        pixels: Pixels = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        frame = Frame(pixels=pixels, source=name, captured=captured, read_ms=(time.monotonic() - captured) * 1e3)
        return self.score(self._scorer, frame), pixels

    def score(self, scorer: Scorer, frame: Frame) -> Reading:
        """One frame by a scorer of the same backend; the reading's arrays are the caller's. Raises `BackendError`."""
        with self._lock:
            reading = scorer.score(frame)
            # A backend may answer in buffers that it uses again for the next frame.
            return replace(
                reading,
                probabilities=None if reading.probabilities is None else reading.probabilities.copy(),
                saliency=None if reading.saliency is None else reading.saliency.copy(),
            )
