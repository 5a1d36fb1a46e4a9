"""The quality gate: refuses a frame that is black, dark, bright or blurred, or whose disc is cut off.

`Inspector` measures the field of view, and `assess` compares the metrics with the thresholds below: a frame is refused
as blurred when its sharpness is below `SHARPNESS`. (`motion` measures what moves between frames.)

The thresholds lie between the 432 real photographs of IDRiD that the project was tried on (all but two pass)
and spoiled copies of them; docs/explanation/verdict.md has the table. All metrics are taken at 224 pixels over the box,
whatever the camera's or the model's resolution, and inside the disc: at its edge the contrast with the border would
dominate that of the retina.
"""

from __future__ import annotations

import math

import numpy as np

from medtex_edge.image.geometry import LAYOUTS, FieldOfView, crop_resize, native_or
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.quality import reference
from medtex_edge.runtime.reading import QualityMetrics, Reason

SIDE = 224  # pixels; at this size the sigmas below were calibrated
STALE_MS = 1000.0  # a live frame older than this is refused as stale
DARK_LEVEL = 55.0  # mean of the brightest channel, 0..255; photographs 71..229, five times darker ones 19..45
BRIGHT_LEVEL = 165.0  # mean grey, 0..255; photographs 39..146
CLIPPED_SHARE = 0.5  # of pixels with a channel at 250 or more; photographs 0..0.30 (red saturates first)
SHARPNESS = 0.195  # see `Inspector.metrics`; 430 of 432 photographs above it, blurred (sigma 4 at 482 px) below it
COVERAGE = 0.5  # share of the disc that is inside the frame and lit; photographs 0.91 or more

_EMPTY = 224  # pixels; with fewer inside, hardly anything is lit
_FLAT = 0.016  # 16ths of a level; less detail is rounding

_precheck_frame = native_or(reference.precheck_frame)
_quality_metrics = native_or(reference.quality_metrics)


class Inspector:
    """Measures the frames of one source, in order. Holds its buffers, so one per thread."""

    def __init__(self) -> None:
        self._small = np.zeros((SIDE, SIDE, 3), np.uint8)
        self._digest: int | None = None
        # The retina's structure, (56, 56) float32, 0 outside the disc; written anew each time.
        self.structure = np.zeros((SIDE // 4, SIDE // 4), np.float32)

    def precheck_frame(self, frame: Pixels, layout: str = "bgr") -> Reason | None:
        """Whether a frame, uint8 in one of `medtex_edge.image.geometry.LAYOUTS`, is black or a duplicate.

        The bytes of 32 or more evenly spaced rows are read. A camera's noise never repeats, so equality means that no
        new exposure arrived: a frozen driver, a stream that repeats its last picture. A picture with a running clock
        in it cannot be detected this way. Call it once a frame.
        """
        digest, lit, sampled = _precheck_frame(frame, LAYOUTS[layout])
        before, self._digest = self._digest, digest
        if lit * 200 < sampled:
            return Reason.BLACK
        return Reason.DUPLICATE if digest == before else None

    def metrics(self, frame: Pixels, box: FieldOfView, prepared: Pixels, layout: str = "bgr") -> QualityMetrics:
        """Measure one frame. `frame` is uint8 in that layout, `prepared` (h, w, 3) uint8 RGB is its box for the model.

        Sharpness is a ratio of two bands of one picture, so neither contrast nor exposure moves it, and the
        finest band, where camera noise lives, is left out: a differences-of-Gaussians form of the spectral slope.
        The Gaussians are binomial, of variance 1 and 2, 4 and 16 pixels.
        """
        height, width = prepared.shape[:2]
        if height == width == SIDE:
            small = prepared
        elif height == width > SIDE:
            small = crop_resize(prepared, FieldOfView(0, 0, width, 1.0), SIDE, SIDE, out=self._small)
        else:
            small = crop_resize(frame, box, SIDE, SIDE, layout=layout, out=self._small)
        sums = reference.Sums(*_quality_metrics(small, self.structure))
        if sums.inside < _EMPTY or not sums.coarse_inside:
            return QualityMetrics(sums.disc_top / sums.disc, 0.0, 0.0, 0.0, box.coverage)
        coarse = _deviation(sums.coarse_inside, sums.coarse, sums.coarse_squares)
        fine = _deviation(sums.inside, sums.fine, sums.fine_squares)
        return QualityMetrics(
            brightness=sums.top / sums.inside,
            grey=sums.grey / sums.inside,
            clipped=sums.clipped / sums.inside,
            sharpness=fine / coarse if coarse > _FLAT else 0.0,
            coverage=box.coverage,
        )


def assess(metrics: QualityMetrics) -> tuple[Reason, str] | None:
    """The first reason to refuse a frame with these metrics, and its figure as text; None if it can be graded.

    In this order: no field of view, too dark, too bright, blurred.
    """
    if metrics.coverage < COVERAGE:
        return Reason.NO_FIELD_OF_VIEW, f"{metrics.coverage:.0%} of the disc is visible, {COVERAGE:.0%} needed"
    if metrics.brightness < DARK_LEVEL:
        return Reason.TOO_DARK, f"brightness {metrics.brightness:.0f} of 255, {DARK_LEVEL:.0f} needed"
    if metrics.clipped > CLIPPED_SHARE:
        return Reason.TOO_BRIGHT, f"{metrics.clipped:.0%} of the disc is saturated, {CLIPPED_SHARE:.0%} allowed"
    if metrics.grey > BRIGHT_LEVEL:
        return Reason.TOO_BRIGHT, f"brightness {metrics.grey:.0f} of 255, {BRIGHT_LEVEL:.0f} allowed"
    if metrics.sharpness < SHARPNESS:
        return Reason.BLURRED, f"sharpness {metrics.sharpness:.3f}, {SHARPNESS:.3f} needed"
    return None


def _deviation(count: int, total: int, squares: int) -> float:
    return math.sqrt(max(squares / count - (total / count) ** 2, 0.0))
