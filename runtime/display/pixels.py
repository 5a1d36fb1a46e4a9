"""Drawing into a frame's pixels: by the native module where it was built, else by its numpy reference."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.image.geometry import MAX_BOX_SIDE, MAX_IMAGE_SIDE, FieldOfView, native_or
from medtex_edge.runtime.display import reference

MAX_GRID_SIDE = 4096  # cells; beyond it the interpolation's products would exceed their integers
LEVELS = 256
_TO_BGR = {
    "rgb": cv2.COLOR_RGB2BGR, "grey": cv2.COLOR_GRAY2BGR,
    "yuyv": cv2.COLOR_YUV2BGR_YUYV, "nv12": cv2.COLOR_YUV2BGR_NV12,
}  # fmt: skip

_draw_saliency = native_or(reference.draw_saliency)


def draw_saliency(
    frame: npt.NDArray[np.uint8],
    saliency: npt.NDArray[np.float32],
    box: FieldOfView,
    table: npt.NDArray[np.uint8],
) -> None:
    """Draw `saliency` (h, w) float32 in 0..1 over `box` of `frame` (H, W, 3) uint8 of any strides, in place.

    Cells tile the box, with linear interpolation between their centres; the box may reach beyond the frame. table
    (256, 4) uint8 is the effect of a saliency of k / 255 on a pixel: table[k, 0] * pixel / 128, rounded, plus
    table[k, 1:], in the frame's order of channels. Pixels of which nothing changes are not touched, and nothing is
    allocated. A saliency that is no number counts as 0. Raises `TypeError` or `ValueError`.
    """
    _check("frame", frame, np.uint8, 3, MAX_IMAGE_SIDE)
    if frame.shape[2] != 3 or not frame.flags.writeable:
        raise ValueError(f"frame: expected a writeable (height, width, 3), got {frame.shape}")
    _check("saliency", saliency, np.float32, 2, MAX_GRID_SIDE)
    if table.dtype != np.uint8 or table.shape != (LEVELS, 4) or not table.flags.c_contiguous:
        raise ValueError(f"table: expected {LEVELS} x 4 uint8, contiguous, got {table.shape} {table.dtype}")
    if not 1 <= box.side <= MAX_BOX_SIDE or max(abs(box.left), abs(box.top)) > MAX_BOX_SIDE:
        raise ValueError(f"box: expected one within {MAX_BOX_SIDE} pixels, got {box}")
    _draw_saliency(frame, saliency, int(box.left), int(box.top), int(box.side), table)


def to_bgr(pixels: npt.NDArray[np.uint8], layout: str, out: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """A frame in one of `medtex_edge.image.geometry.LAYOUTS` -> (H, W, 3) BGR: `out`, or a new array where it cannot.

    For display alone: OpenCV's conversion, within two levels of the one that makes the model's input.
    """
    rows, columns = pixels.shape[:2]
    shape = (rows // 3 * 2 if layout == "nv12" else rows, columns, 3)
    if out is None or out.shape != shape:
        out = np.empty(shape, np.uint8)
    cv2.cvtColor(pixels, _TO_BGR[layout], dst=out)
    return out


def _check(name: str, array: npt.NDArray[Any], dtype: type, dimensions: int, most: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype.__name__}, got {getattr(array, 'dtype', type(array).__name__)}")
    if array.ndim != dimensions or not 1 <= min(array.shape) <= max(array.shape) <= most:
        raise ValueError(f"{name}: expected {dimensions} axes of 1 to {most}, got {array.shape}")
