"""The circle that most points of an outline lie on: robust to eyelids, text and light that falls off.

The reference for runtime/native/circle.cpp, which computes the same doubles in the same order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TRIPLES = 192  # circles tried; with two thirds of the edge points good, 57 of them rest on good points alone


def _sequence(count: int) -> I64:
    """The same pseudo-random numbers everywhere (Numerical Recipes' linear congruential generator)."""
    state, numbers = 1, []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        numbers.append(state >> 8)
    return np.array(numbers, np.int64)


_NUMBERS = _sequence(3 * TRIPLES).reshape(TRIPLES, 3)


def fit_circle(points: I64, height: int, width: int) -> tuple[float, float, float] | None:
    """The circle (x, y, radius in doubled pixels) that most of the outline lies on, or None.

    Circles through three points each are judged by the points on them, less the points outside: light beyond
    the edge speaks against a circle, darkness inside it is an eyelid or uneven light. The best is refined
    by least squares (Kasa 1976) on the points that lie on it.
    """
    n = len(points)
    if n < 16:
        return None
    # Relative to the frame's centre, so that the sums of fourth powers stay within 64 bits.
    x, y = points[:, 0] - width, points[:, 1] - height
    tolerance = max(3.0, 0.015 * min(height, width))
    few = slice(None, None, -(-n // 256))
    best = _best_triple(x, y, x[few], y[few], tolerance, height, width)
    if best is None:
        return None
    a, b, radius = best
    for _ in range(3):
        on, _ = _on_circle(x, y, a, b, radius, tolerance)
        fitted = _least_squares(x[on], y[on])
        if fitted is None:
            return None
        a, b, radius = fitted
    on, outside = _on_circle(x, y, a, b, radius, tolerance)
    count = int(on.sum())
    dx, dy = x[on] - a, y[on] - b
    octant = (dx > 0) * 4 + (dy > 0) * 2 + (np.abs(dx) > np.abs(dy))
    octants = int((np.bincount(octant, minlength=8) >= 2).sum())
    fits = (
        _plausible(a, b, radius, height, width) and count * 5 >= n * 2 and int(outside.sum()) * 4 <= n and octants >= 3
    )
    return (a + width, b + height, radius) if fits else None


def _best_triple(
    x: I64, y: I64, few_x: I64, few_y: I64, tolerance: float, height: int, width: int
) -> tuple[float, float, float] | None:
    picks = _NUMBERS % len(x)
    (x0, x1, x2), (y0, y1, y2) = x[picks].T, y[picks].T
    z0, z1, z2 = x0 * x0 + y0 * y0, x1 * x1 + y1 * y1, x2 * x2 + y2 * y2
    area = 2 * (x0 * (y1 - y2) + x1 * (y2 - y0) + x2 * (y0 - y1))
    safe = np.where(area == 0, 1, area).astype(np.float64)
    a = (z0 * (y1 - y2) + z1 * (y2 - y0) + z2 * (y0 - y1)).astype(np.float64) / safe
    b = (z0 * (x2 - x1) + z1 * (x0 - x2) + z2 * (x1 - x0)).astype(np.float64) / safe
    radius = np.sqrt((x0 - a) * (x0 - a) + (y0 - b) * (y0 - b))
    usable = (area != 0) & _plausible(a, b, radius, height, width)
    on, outside = _on_circle(few_x, few_y, a[:, None], b[:, None], radius[:, None], tolerance)
    score = np.where(usable, on.sum(axis=1) - outside.sum(axis=1), -len(x) - 1)
    best = int(np.argmax(score))
    return (float(a[best]), float(b[best]), float(radius[best])) if usable[best] else None


def _plausible(a: Any, b: Any, radius: Any, height: int, width: int) -> Any:
    """A disc centred in the frame, no smaller than a fifth of the frame's shorter side nor much larger than it."""
    inside = (abs(a) <= width) & (abs(b) <= height)
    return inside & (radius * 5 >= min(height, width)) & (radius * 4 <= 5 * max(height, width))


def _on_circle(x: I64, y: I64, a: Any, b: Any, radius: Any, tolerance: float) -> tuple[Mask, Mask]:
    dx, dy = x - a, y - b
    distance = dx * dx + dy * dy
    inner, outer = np.maximum(radius - tolerance, 0.0), radius + tolerance
    outside = distance > outer * outer
    return (distance >= inner * inner) & ~outside, outside


def _least_squares(x: I64, y: I64) -> tuple[float, float, float] | None:
    """Kasa's algebraic circle fit: sums in exact integers, then doubles in the native module's order."""
    z = x * x + y * y
    n, sx, sy, sz = float(len(x)), float(x.sum()), float(y.sum()), float(z.sum())
    xx, xy, yy = float((x * x).sum()), float((x * y).sum()), float((y * y).sum())
    zx, zy = float((z * x).sum()), float((z * y).sum())
    p, q, r = n * xx - sx * sx, n * xy - sx * sy, n * yy - sy * sy
    u, v = 0.5 * (n * zx - sz * sx), 0.5 * (n * zy - sz * sy)
    determinant = p * r - q * q
    if not determinant > 0.0:
        return None
    a, b = (u * r - q * v) / determinant, (p * v - q * u) / determinant
    square = (sz - 2.0 * a * sx - 2.0 * b * sy) / n + a * a + b * b
    return (a, b, math.sqrt(square)) if square > 0.0 else None
