"""The memory layouts of a frame, in numpy: the reference of the native readers of each layout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

# The numbers are shared with runtime/native/geometry.hpp.
RGB, BGR, GREY, YUYV, NV12 = range(5)


def channels(image: U8, layout: int) -> U8:
    """(H, W, 3) uint8: the channels in their own order, or Y, U and V, chroma repeated for each pair or block."""
    if layout == GREY:
        return image[..., None].repeat(3, axis=2)
    if layout == YUYV:
        u, v = (image[:, first::2, 1].repeat(2, axis=1) for first in (0, 1))
        return np.stack([image[..., 0], u, v], axis=2)
    if layout == NV12:
        height, width = image.shape[0] // 3 * 2, image.shape[1]
        chroma = image[height:].reshape(height // 2, width // 2, 2).repeat(2, axis=0).repeat(2, axis=1)
        return np.concatenate([image[:height, :, None], chroma], axis=2)
    return image


def colours(image: U8, layout: int) -> U8:
    """(H, W, 3) uint8: three channels in their own order, else RGB."""
    planes = channels(image, layout)
    if layout not in (YUYV, NV12):
        return planes
    y, u, v = np.moveaxis(planes.astype(np.int64), 2, 0)
    return to_rgb(y - 16, u - 128, v - 128, 1).astype(np.uint8)


def to_rgb(c: I64, d: I64, e: I64, divisor: int) -> I64:
    """BT.601, limited range, in its usual integers: luma above 16 and chroma about 128, times `divisor` -> RGB."""
    r, g, b = 298 * c + 409 * e, 298 * c - 100 * d - 208 * e, 298 * c + 516 * d
    rgb: I64 = (np.stack([r, g, b], axis=-1) + 128 * divisor) // (256 * divisor)
    return rgb.clip(0, 255)
