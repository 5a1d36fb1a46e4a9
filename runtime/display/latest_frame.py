"""The newest frame with its reading, for a display: one slot, the newest wins, nothing is queued."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np

from medtex_edge.image.geometry import FieldOfView
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading


@dataclass(eq=False)
class Picture:
    """A frame with nothing drawn into it, and its reading."""

    pixels: Pixels  # (H, W, 3) uint8 BGR
    reading: Reading
    captured: float  # time.monotonic() of the exposure or arrival
    frames_per_second: float | None  # None for photographs
    serial: int  # number of the offer, from 1


class LatestFrame:
    """One slot between the drawing thread, which offers every frame, and one other thread, which takes the latest.

    Thread-safe. Two buffers are exchanged, so that neither thread waits longer than for a copy, and no frame allocates.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._back: Picture | None = None
        self._front: Picture | None = None
        self._fresh = False
        self.serial = 0  # of the newest picture that was offered

    def offer(self, pixels: Pixels, reading: Reading, captured: float, frames_per_second: float | None) -> None:
        """Copy a frame, (H, W, 3) uint8 BGR; the one before it, if it was not taken, is dropped."""
        with self._lock:
            self.serial += 1
            back = self._back
            if back is None or back.pixels.shape != pixels.shape:
                empty = np.empty(pixels.shape, np.uint8)
                back = self._back = Picture(empty, reading, captured, frames_per_second, self.serial)
            np.copyto(back.pixels, pixels)
            back.reading, back.captured, back.frames_per_second = reading, captured, frames_per_second
            back.serial, self._fresh = self.serial, True

    def take(self) -> Picture | None:
        """The newest picture, the taker's until it takes the next one; None where none was offered since."""
        with self._lock:
            if not self._fresh:
                return None
            self._front, self._back, self._fresh = self._back, self._front, False
            return self._front


def scaled(reading: Reading, scale: float) -> Reading:
    """The reading with its field of view for a picture that is `scale` times as large."""
    box = reading.field_of_view
    if box is None or scale == 1.0:
        return reading
    left, top = round(box.left * scale), round(box.top * scale)
    return replace(reading, field_of_view=FieldOfView(left, top, max(1, round(box.side * scale)), box.coverage))
