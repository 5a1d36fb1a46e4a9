"""Saliency into a frame, in numpy: the reference of runtime/native/overlay.cpp, and its replacement.

Exact integers throughout, so that both draw the same picture to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

_STEPS = 4  # at least, of saliency from a row of cells to the next
_MOST_SHARED = 4


def draw_saliency(frame: U8, saliency: npt.NDArray[np.float32], left: int, top: int, side: int, table: U8) -> None:
    """Draw `saliency` (h, w) in 0..1 over the box of `side` pixels at (left, top) of `frame` (H, W, 3), in place.

    The cells tile the box; between their centres saliency is interpolated, the same for pixels that are less than a
    quarter of a cell apart, two across and at most four down. table (256, 4): a saliency of k / 255 turns a pixel
    into table[k, 0] * pixel / 128, rounded, plus table[k, 1:]. NaN counts as 0.
    """
    height, width = frame.shape[:2]
    x = np.arange(max(left, 0), min(left + side, width))
    y = np.arange(max(top, 0), min(top + side, height))
    if not x.size or not y.size:
        return
    rows, columns = saliency.shape
    levels = np.rint(np.clip(np.nan_to_num(saliency, nan=0.0), 0, 1).astype(np.float32) * np.float32(255))
    levels = levels.astype(np.int64)
    share = min(max(side // (_STEPS * max(rows, columns)), 1), _MOST_SHARED)
    down = 2 * ((y - top) // share * share) + share
    across = 2 * ((x - left) | 1) if share > 1 else 2 * (x - left) + 1
    (r, fy), (c, fx) = _places(down, side, rows), _places(across, side, columns)
    line = levels[r] * (256 - fy)[:, None] + levels[np.minimum(r + 1, rows - 1)] * fy[:, None]
    value = line[:, c] * (256 - fx) + line[:, np.minimum(c + 1, columns - 1)] * fx
    effect = table[(value + 32768) >> 16].astype(np.int64)
    region = frame[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    region[:] = ((effect[..., :1] * region + 64) >> 7) + effect[..., 1:]


def _places(middles: I64, side: int, cells: int) -> tuple[I64, I64]:
    """The cell whose centre each lies after, in half pixels from the box's edge, and by how many 256ths of a cell."""
    scaled = (middles * cells - side) * 32768
    position = np.clip(scaled // side, 0, (cells - 1) << 16)
    return position >> 16, (position >> 8) & 255
