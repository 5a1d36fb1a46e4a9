"""The image geometry in numpy: the reference of the native module, and its replacement where that is missing.

`detect_fov` finds the field of view in a sparse sample of the frame, `crop_resize` cuts the box and resizes it. Both
work in exact integers up to one rounding; the circle fit uses doubles in a fixed order of operations, so that
the native module (runtime/native, the same steps under the same names) finds the same box to the pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medtex_edge.image.circle import fit_circle
from medtex_edge.image.pixel_format import BGR, NV12, RGB, YUYV, channels, colours, to_rgb

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# The outcomes of `detect_fov`. The numbers are shared with runtime/native/geometry.hpp.
FOUND, TINY, STRIP, BLACK, WHITE, EVEN, NOISE, FAINT, SCATTERED, HOLLOW = range(10)

GRID = 256  # at most this many samples along the longer side: 1080p is sampled every 8 pixels, 12 MP every 16
MIN_SIDE = 32  # pixels; below it a disc's edge cannot be separated from its texture
MAX_ASPECT = 8
RAYS = 128
BORDER_MAX = 80  # a corner brighter than this is fundus, not border


class FovDetection(NamedTuple):
    """`status` FOUND with the box (pixels) and its disc's lit and total samples, else a refusal with one `figure`."""

    status: int
    left: int = 0
    top: int = 0
    side: int = 0
    lit: int = 0
    total: int = 0
    figure: int = 0


def detect_fov(image: U8, layout: int = RGB) -> FovDetection:
    """Find the field of view of `image` uint8 of any strides, in any layout. Never raises."""
    image = colours(image, layout)
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        return FovDetection(TINY, figure=min(height, width))
    if max(height, width) > MAX_ASPECT * min(height, width):
        return FovDetection(STRIP, figure=max(height, width) // min(height, width))
    step = -(-max(height, width) // GRID)
    samples = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])
    refusal, median = _refuse(samples.max(axis=2))
    if refusal is not None:
        return refusal
    border, threshold, contrast = _threshold(samples)
    if contrast < 20:
        # Nothing stands out of the border: a photograph cropped to the retina, or nearly nothing at all.
        if median < 40:
            return FovDetection(FAINT, figure=contrast)
        border, threshold = np.zeros(3, np.int16), 1
    lit = _majority(_level(samples, border) >= threshold)
    body = _largest_component(lit)
    area = int(body.sum())
    if area * 40 < body.size:
        return FovDetection(SCATTERED, figure=100 * area // body.size)
    points, box = _edges(image, body, step, border, threshold)
    circle = fit_circle(points, height, width)
    if circle is not None:
        steepest = _steepest(image, circle, border, contrast)
        x, y, radius = fit_circle(steepest, height, width) or circle  # doubled pixels
        side = math.floor(radius + 0.5)
        left, top = math.floor((x - side) * 0.5 + 0.5), math.floor((y - side) * 0.5 + 0.5)
    else:
        x0, y0, x1, y1 = box
        if area * step * step * 2 < (x1 - x0) * (y1 - y0):
            return FovDetection(SCATTERED, figure=100 * area // body.size)
        side = max(x1 - x0, y1 - y0)
        left, top = (x0 + x1 - side) >> 1, (y0 + y1 - side) >> 1
    lit_count, inside, total = _coverage(lit, step, left, top, side)
    if lit_count * 3 < inside:
        return FovDetection(HOLLOW, figure=100 * lit_count // max(inside, 1))
    return FovDetection(FOUND, left, top, side, lit_count, total)


def _refuse(level: U8) -> tuple[FovDetection | None, int]:
    """Refuse what holds no picture at all, by the brightest channel of each sample (h, w); also give its median."""
    low, median, high = (_percentile(level, percent) for percent in (3, 50, 97))
    if high < 24:
        return FovDetection(BLACK, figure=high), median
    if _percentile(level, 10) >= 245:
        return FovDetection(WHITE, figure=median), median
    if high - low < 10:
        return FovDetection(EVEN, figure=median), median
    # A photograph is smooth from sample to sample: noise differs as much between neighbours as over the frame.
    wide = level.astype(np.int64)
    steps = np.abs(np.diff(wide, axis=0)).sum() + np.abs(np.diff(wide, axis=1)).sum()
    pairs = (level.shape[0] - 1) * level.shape[1] + level.shape[0] * (level.shape[1] - 1)
    spread = int(np.abs(wide - int(wide.sum()) // level.size).sum())
    if int(steps) * level.size * 100 > spread * pairs * 80:
        return FovDetection(NOISE, figure=100 * int(steps) * level.size // max(spread * pairs, 1)), median
    return None, median


def _threshold(samples: U8) -> tuple[npt.NDArray[np.int16], int, int]:
    """Border colour (3,), the level above it that counts as lit, and how far the bright part stands out of it.

    The border is the darkest corner: at least one is dark wherever a border shows, whatever text covers the rest.
    """
    leg = max(3, min(samples.shape[:2]) // 16)
    rows, columns = np.indices((leg, leg))
    triangle = rows + columns < leg
    corners = [flipped[:leg, :leg][triangle] for flipped in
               (samples, samples[:, ::-1], samples[::-1], samples[::-1, ::-1])]  # fmt: skip
    middle = int(triangle.sum()) // 2
    medians = [int(np.sort(corner.max(axis=1))[middle]) for corner in corners]
    corner = corners[medians.index(min(medians))]
    border = np.sort(corner, axis=0)[middle].astype(np.int16)
    if int(border.max()) > BORDER_MAX:
        border[:] = 0
        return border, 1, 255
    noise = int(np.sort(_level(corner, border))[len(corner) * 3 // 4])
    contrast = _percentile(_level(samples, border), 97)
    return border, max(10, contrast * 12 // 100, min(3 * noise, contrast // 2)), contrast


def _level(samples: U8, border: npt.NDArray[np.int16]) -> U8:
    """(..., 3) -> (...): how far the channel that stands out most is above the border's colour."""
    level: U8 = np.maximum(samples.astype(np.int16) - border, 0).max(axis=-1).astype(np.uint8)
    return level


def _percentile(level: U8, percent: int) -> int:
    """The lowest level that at least `percent` of the samples do not exceed."""
    reached = np.cumsum(np.bincount(level.ravel(), minlength=256)) * 100 >= level.size * percent
    return int(np.argmax(reached))


def _majority(lit: Mask) -> Mask:
    """A 3 x 3 majority vote, edges repeated: hot pixels and thin strokes go, the disc's outline stays."""
    padded = np.pad(lit, 1, mode="edge").astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5)


def _largest_component(lit: Mask) -> Mask:
    """The largest 4-connected part (the first in reading order among equals), by union of the runs of each row."""
    padded = np.zeros((lit.shape[0], lit.shape[1] + 2), np.int8)
    padded[:, 1:-1] = lit
    turn = np.diff(padded, axis=1)
    row, start = np.nonzero(turn == 1)
    end = np.nonzero(turn == -1)[1]
    parent = list(range(len(row)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    rows, starts, ends = row.tolist(), start.tolist(), end.tolist()
    above = 0
    for run in range(len(rows)):
        # Passed for good: runs of earlier rows, and those of the row above that end before this one starts.
        while above < run and (rows[above], ends[above]) <= (rows[run] - 1, starts[run]):
            above += 1
        other = above
        while other < run and rows[other] == rows[run] - 1 and starts[other] < ends[run]:
            a, b = sorted((root(other), root(run)))
            parent[b] = a
            other += 1
    body = np.zeros_like(lit)
    if not rows:
        return body
    roots = np.array([root(run) for run in range(len(rows))])
    largest = int(np.argmax(np.bincount(roots, weights=end - start)))
    for run in np.nonzero(roots == largest)[0].tolist():
        body[rows[run], starts[run] : ends[run]] = True
    return body


def _edges(
    image: U8, body: Mask, step: int, border: npt.NDArray[np.int16], threshold: int
) -> tuple[I64, tuple[int, int, int, int]]:
    """The body's outline, found to the pixel: points (n, 2) as x, y in doubled pixels, and its bounding box.

    Where the body reaches the frame's edge it is cut off there: no point of the disc's outline, but the box's end.
    """
    height, width = image.shape[:2]
    ends = []
    points = []
    for axis, extent in ((1, width), (0, height)):
        lines = np.nonzero(body.any(axis=axis))[0]
        across = body[lines] if axis == 1 else body[:, lines].T
        first = np.argmax(across, axis=1)
        last = across.shape[1] - 1 - np.argmax(across[:, ::-1], axis=1)
        for position, outwards in ((first, -1), (last, 1)):
            free = position > 0 if outwards < 0 else position < across.shape[1] - 1
            line = lines[free] * step + step // 2
            lit = position[free] * step + step // 2
            dark = lit + outwards * step
            while step > 1 and int(np.abs(dark - lit).max(initial=0)) > 1:
                middle = (lit + dark) >> 1 if outwards > 0 else (lit + dark + 1) >> 1
                pixels = image[line, middle] if axis == 1 else image[middle, line]
                is_lit = _level(pixels, border) >= threshold
                lit, dark = np.where(is_lit, middle, lit), np.where(is_lit, dark, middle)
            edge = 2 * lit if outwards < 0 else 2 * lit + 2
            points.append(np.stack((edge, 2 * line + 1) if axis == 1 else (2 * line + 1, edge), axis=1))
            if not free.all():
                ends.append(0 if outwards < 0 else extent)
            else:
                ends.append(int(edge.min() if outwards < 0 else edge.max()) // 2)
    x0, x1, y0, y1 = ends
    return np.concatenate(points).astype(np.int64), (x0, y0, x1, y1)


_ANGLES = (np.arange(RAYS) + 0.5) * (2 * np.pi / RAYS)
_COS, _SIN = (np.rint(f(_ANGLES) * 16384).astype(np.int64)[:, None] for f in (np.cos, np.sin))


def _steepest(image: U8, circle: tuple[float, float, float], border: npt.NDArray[np.int16], contrast: int) -> I64:
    """Where the light falls most steeply along each ray from the circle's centre: points (n, 2), doubled pixels.

    The threshold's outline moves with exposure, focus and the glow around an overexposed disc; this one does not.
    """
    height, width = image.shape[:2]
    x, y, radius = (math.floor(value) for value in circle)
    spacing = max(2, radius // 128)
    count = (radius * 11 // 10 - radius * 3 // 4) // spacing
    window = min(max(count // 10, 1), 4)
    if count < 2 * window:
        return np.zeros((0, 2), np.int64)
    # The rays start staggered, so that their common spacing averages out of the radius.
    start = radius * 3 // 4 + spacing * (np.arange(RAYS) * 5 % 8) // 8
    rho = start[:, None] + spacing * np.arange(count)
    column, row = (x + (_COS * rho >> 14)) >> 1, (y + (_SIN * rho >> 14)) >> 1
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    level = _level(image[np.where(inside, row, 0), np.where(inside, column, 0)], border).astype(np.int64)
    sums = np.zeros((2, RAYS, count + 1), np.int64)
    np.cumsum(level, axis=1, out=sums[0, :, 1:])
    np.cumsum(inside, axis=1, out=sums[1, :, 1:])
    # The mean of `window` pixels within less that of as many beyond, at each place where all of them are in the frame.
    before, here, after = sums[..., : -2 * window], sums[..., window:-window], sums[..., 2 * window :]
    drop = np.where((after - before)[1] == 2 * window, (2 * here - before - after)[0], -1)
    best = np.argmax(drop, axis=1)
    ray = np.nonzero(drop[np.arange(RAYS), best] >= window * max(6, contrast // 10))[0]
    edge = (start[ray] + spacing * (best[ray] + window) - spacing // 2)[:, None]
    return np.concatenate((x + (_COS[ray] * edge >> 14), y + (_SIN[ray] * edge >> 14)), axis=1)


def _coverage(lit: Mask, step: int, left: int, top: int, side: int) -> tuple[int, int, int]:
    """Samples of the box's inscribed disc: how many are lit, lie in the frame, and there are in all."""
    rows, columns = lit.shape
    offset = 2 * (step // 2) + 1  # doubled position of sample 0's centre
    x, y = 2 * left + side, 2 * top + side
    i = np.arange(-((offset + side - y) // (2 * step)), (y + side - offset) // (2 * step) + 1)
    dy = 2 * step * i + offset - y
    half = np.sqrt((side * side - dy * dy).astype(np.float64)).astype(np.int64)
    j0, j1 = -((offset + half - x) // (2 * step)), (x + half - offset) // (2 * step) + 1
    total = int(np.maximum(j1 - j0, 0).sum())
    inside = (i >= 0) & (i < rows)
    i, j0, j1 = i[inside], np.clip(j0[inside], 0, columns), np.clip(j1[inside], 0, columns)
    j1 = np.maximum(j0, j1)
    before = np.zeros((rows, columns + 1), np.int64)
    before[:, 1:] = np.cumsum(lit, axis=1)
    return int((before[i, j1] - before[i, j0]).sum()), int((j1 - j0).sum()), total


def crop_resize(image: U8, left: int, top: int, side: int, layout: int, out: U8) -> None:
    """Cut the square box out of `image` (black beyond it), resize it to `out` (height, width, 3) RGB.

    Each pixel of `out` is the exact mean of the box over an interval per axis, max(side / n, 1) pixels long and
    centred on it: area averaging where it shrinks, linear interpolation where it enlarges, the identity where
    the sizes match. Beyond the box's edge its outermost pixels are repeated. Rounded once, half up.
    """
    image = channels(image, layout)
    yuv = layout in (YUYV, NV12)
    if yuv:
        # A fourth channel is 1 inside the frame: beyond it there is black, not a luma of 0 without chroma.
        image = np.concatenate([image, np.ones((*image.shape[:2], 1), np.uint8)], axis=2)
    (rows, columns, depth), (height, width) = image.shape, out.shape[:2]
    x0, x1 = min(max(left, 0), columns), min(max(left + side, 0), columns)
    starts, ends, unit, per_row = _intervals(side, height)
    lines = np.zeros((height, side, depth), np.int64)
    for i in range(height):
        first, last = min(max(int(starts[i]) // unit, 0), side - 1), min(max((int(ends[i]) - 1) // unit, 0), side - 1)
        y0, y1 = max(top + first, 0), min(top + last + 1, rows)
        if y0 >= y1 or x0 >= x1:
            continue
        strip = image[y0:y1, x0:x1]
        total = unit * strip.sum(axis=0, dtype=np.int64)
        if top + first == y0:
            total -= (int(starts[i]) - first * unit) * strip[0].astype(np.int64)
        if top + last + 1 == y1:
            total -= ((last + 1) * unit - int(ends[i])) * strip[-1].astype(np.int64)
        lines[i, x0 - left : x1 - left] = total
    starts, ends, unit, per_column = _intervals(side, width)
    before = np.zeros((height, side, depth), np.int64)
    np.cumsum(lines[:, :-1], axis=1, out=before[:, 1:])

    def up_to(position: I64) -> I64:
        # Continued in a straight line beyond either end: that repeats the outermost pixel.
        k = np.clip(position // unit, 0, side - 1)
        integral: I64 = unit * before[:, k] + (position - k * unit)[:, None] * lines[:, k]
        return integral

    divisor = per_row * per_column
    sums = up_to(ends) - up_to(starts)
    if yuv:
        y, u, v, visible = np.moveaxis(sums, 2, 0)
        out[...] = to_rgb(y - 16 * visible, u - 128 * visible, v - 128 * visible, divisor)
        return
    mean = (sums + divisor // 2) // divisor
    out[...] = mean[..., ::-1] if layout == BGR else mean


def _intervals(side: int, n: int) -> tuple[I64, I64, int, int]:
    """Start and end of each output pixel's interval, the length of a source pixel, and the interval's length."""
    i = np.arange(n, dtype=np.int64)
    if side >= n:  # in units of 1 / n pixel
        return i * side, (i + 1) * side, n, side
    return (2 * i + 1) * side - n, (2 * i + 1) * side + n, 2 * n, 2 * n  # in units of 1 / 2n pixel
