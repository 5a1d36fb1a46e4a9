"""From frame to frame: a box that stands still, how fast the retina moves, whether it is the same scene."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.image.geometry import FieldOfView

# Shares of the box's side. Noise moves a box by up to 0.002 of it; from 0.005 on it is the camera that moved.
STEADY = 0.005
# Disc diameters per second: at 30 frames/s four pixels of 224 from one to the next, about half of them in an exposure
# of 1/60 s. A steady hand and the eye's own drift stay below 0.3, a saccade or a search for the disc does not.
FASTEST = 0.5
# Of a phase correlation: still photographs and ones moved by up to a seventh have 0.6 or more, two different ones 0.3.
SURE = 0.45
# Of the structure of two frames, without moving one: 0.95 or more where only noise or light differs, 0.8 after a move
# by a hundredth, 0.1 to 0.4 for two different photographs.
SAME_SCENE = 0.6
STILL = 0.9  # less than a hundredth of the disc: not asked how far
LONGEST_S = 0.25  # between two frames: after more, nothing is said of what the eye did meanwhile
_SHORTEST_S = 1 / 30  # the error of a shift, divided by less, would look like speed


class SteadyBox:
    """Holds the field of view's box still while it only trembles, so that the saliency does not jump."""

    def __init__(self) -> None:
        self._box: FieldOfView | None = None

    def follow(self, box: FieldOfView) -> FieldOfView:
        """The box before it, with this one's coverage, unless this one lies or measures differently."""
        previous = self._box
        if previous is not None:
            least = STEADY * previous.side
            x, y = _centre(previous)
            if max(abs(_centre(box)[0] - x), abs(_centre(box)[1] - y), abs(box.side - previous.side)) <= least:
                return replace(previous, coverage=box.coverage)
        self._box = box
        return box


@dataclass(frozen=True)
class Motion:
    """What happened between two frames."""

    speed: float | None  # disc diameters per second; None where it can not be told
    same_scene: bool


class MotionMeter:
    """Compares each frame's structure with that of the frame before."""

    def __init__(self, cells: int) -> None:
        self._before = np.zeros((cells, cells), np.float32)
        self._product = np.zeros((cells, cells), np.float32)
        self._window = cv2.createHanningWindow((cells, cells), cv2.CV_32F)
        self._box: FieldOfView | None = None

    def measure(self, structure: npt.NDArray[np.float32], box: FieldOfView, seconds: float) -> Motion:
        """`structure` (cells, cells) lies over `box`; `seconds` have passed since the frame before.

        The shift is found by phase correlation (Kuglin and Hines, 1975): to 0.004 of the disc up to a fifth of it.
        """
        before, last = self._before, self._box
        if last is None or not 0 < seconds <= LONGEST_S:
            motion = Motion(None, same_scene=False)
        else:
            likeness = _correlation(before, structure, self._product)
            (x, y), (old_x, old_y) = _centre(box), _centre(last)
            dx, dy, sure = (x - old_x) / box.side, (y - old_y) / box.side, 1.0
            if likeness < STILL:
                (more_x, more_y), sure = cv2.phaseCorrelate(before, structure, self._window)
                dx, dy = dx + more_x / len(structure), dy + more_y / len(structure)
            speed = math.hypot(dx, dy) / max(seconds, _SHORTEST_S) if sure >= SURE else None
            motion = Motion(speed, same_scene=likeness >= SAME_SCENE)
        np.copyto(before, structure)
        self._box = box
        return motion


def _centre(box: FieldOfView) -> tuple[float, float]:
    return box.left + box.side / 2, box.top + box.side / 2


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], product: npt.NDArray[np.float32]) -> float:
    """Of two structures, which have no mean of their own; 0 where one is flat."""
    norm = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.multiply(a, b, out=product).sum()) / norm if norm > 0 else 0.0
