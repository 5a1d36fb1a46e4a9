"""Whether a frame can be graded: facts of the field of view, and the thresholds that turn them into a reason.

The thresholds lie between the 432 real photographs of IDRiD that the project was tried on (all of them pass)
and spoiled copies of them; docs/readings.md has the table. All facts are taken at 224 pixels over the box,
whatever the camera's or the model's resolution, and inside the disc, away from its edge, whose contrast with the
border would drown the retina's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from medtex_edge.image import FieldOfView, crop_resize
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reason

SIDE = 224  # pixels; at this size the sigmas below were calibrated
STALE_MS = 1000.0  # a live frame older than this shows what was, not what is
BLACK_LEVEL = 16  # of 255; a frame with less than half a percent of its samples at it: lens cap, light off
DARK_LEVEL = 55.0  # mean of the brightest channel, 0..255; photographs 71..229, five times darker ones 19..45
BRIGHT_LEVEL = 165.0  # mean grey, 0..255; photographs 39..146
CLIPPED_SHARE = 0.5  # of pixels with a channel at 250 or more; photographs 0..0.30 (red saturates first)
SHARPNESS = 0.225  # see `Inspector.facts`; 430 of 432 photographs 0.246..0.594, blurred (sigma 4 at 482 px) below it
COVERAGE = 0.5  # share of the disc that is inside the frame and lit; photographs 0.91 or more

_LIT = 10  # brightest channel; below it a pixel of the disc is border or cut off
_INSET = 9  # pixels that are kept away from whatever is not lit


@dataclass(frozen=True)
class Facts:
    """What was measured in one frame; levels 0..255, shares 0..1."""

    brightness: float  # mean of the brightest channel
    grey: float  # mean luma
    clipped: float  # share of pixels with a channel at 250 or more
    sharpness: float  # detail of 1 to 1.5 pixels over detail of 2 to 4
    coverage: float  # share of the disc that is visible

    def to_json(self) -> dict[str, float]:
        """A value for `json.dumps`."""
        return {name: round(float(value), 4) for name, value in vars(self).items()}


class Inspector:
    """Measures frames of one stream. Holds its buffers, so one per thread."""

    def __init__(self) -> None:
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        self._disc = ((x * x + y * y) < (0.45 * SIDE) ** 2).astype(np.uint8)
        self._kernel = np.ones((_INSET, _INSET), np.uint8)
        self._small = np.zeros((SIDE, SIDE, 3), np.uint8)
        self._previous: Pixels | None = None

    def facts(self, frame: Pixels, box: FieldOfView, prepared: Pixels) -> Facts:
        """Measure one frame. `frame` (H, W, 3) uint8 BGR, `prepared` (h, w, 3) uint8 RGB is its box for the model.

        Sharpness is a ratio of two bands of one picture, so neither contrast nor exposure moves it, and the
        finest band, where camera noise lives, is left out: a differences-of-Gaussians form of the spectral slope.
        """
        small = self._small
        if min(prepared.shape[:2]) >= SIDE:
            cv2.resize(prepared, (SIDE, SIDE), dst=small, interpolation=cv2.INTER_AREA)
        else:
            crop_resize(frame, box, SIDE, SIDE, layout="bgr", out=small)
        red, green, blue = small[..., 0], small[..., 1], small[..., 2]
        top = np.maximum(np.maximum(red, green), blue)
        lit = self._disc * (top > _LIT)
        inside = cv2.erode(lit, self._kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        count = int(cv2.countNonZero(inside))
        if count < SIDE:  # hardly anything is lit
            return Facts(float(cv2.mean(top, self._disc)[0]), 0.0, 0.0, 0.0, box.coverage)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        clipped = int(cv2.countNonZero(inside * (top >= 250))) / count
        detail = grey.astype(np.float32)
        one, wider, two, four = (cv2.GaussianBlur(detail, (0, 0), sigma) for sigma in (1.0, 1.5, 2.0, 4.0))
        coarse = _deviation(two - four, inside)
        return Facts(
            brightness=float(cv2.mean(top, inside)[0]),
            grey=float(cv2.mean(grey, inside)[0]),
            clipped=clipped,
            sharpness=_deviation(one - wider, inside) / coarse if coarse > 1e-3 else 0.0,
            coverage=box.coverage,
        )

    def is_duplicate(self, frame: Pixels) -> bool:
        """Whether every eighth row equals the frame before it bit by bit, and remember this one.

        A camera's noise never repeats, so equality means that no new exposure arrived: a frozen driver, a
        stream that repeats its last picture. A picture with a running clock in it can not be caught this way.
        """
        rows = frame[::8]
        if self._previous is None or self._previous.shape != rows.shape:
            self._previous = rows.copy()
            return False
        if np.array_equal(self._previous, rows):
            return True
        np.copyto(self._previous, rows)
        return False


def is_black(frame: Pixels) -> bool:
    """Whether nothing is lit, from a sparse look at every channel of (H, W, 3) uint8."""
    height, width = frame.shape[:2]
    step = max(1, min(height, width) // 64)
    sample = frame[::step, ::step]
    return int(np.count_nonzero(sample >= BLACK_LEVEL)) * 200 < sample.size


def judge(facts: Facts) -> tuple[Reason, str] | None:
    """The first reason why a frame of these facts cannot be graded, with its figure; None where it can."""
    if facts.coverage < COVERAGE:
        return Reason.NO_FIELD_OF_VIEW, f"{facts.coverage:.0%} of the disc is visible, {COVERAGE:.0%} needed"
    if facts.brightness < DARK_LEVEL:
        return Reason.TOO_DARK, f"brightness {facts.brightness:.0f} of 255, {DARK_LEVEL:.0f} needed"
    if facts.clipped > CLIPPED_SHARE:
        return Reason.TOO_BRIGHT, f"{facts.clipped:.0%} of the disc is saturated, {CLIPPED_SHARE:.0%} allowed"
    if facts.grey > BRIGHT_LEVEL:
        return Reason.TOO_BRIGHT, f"brightness {facts.grey:.0f} of 255, {BRIGHT_LEVEL:.0f} allowed"
    if facts.sharpness < SHARPNESS:
        return Reason.BLURRED, f"sharpness {facts.sharpness:.3f}, {SHARPNESS:.3f} needed"
    return None


def _deviation(band: np.ndarray[tuple[int, int], np.dtype[np.float32]], mask: Pixels) -> float:
    return float(cv2.meanStdDev(band, mask=mask)[1][0, 0])
