"""The one definition of the model's input: find the field of view, cut its square box, resize it.

Used by the training loader and on the device alike. The native module (runtime/native)
is used where it was built, else the numpy reference (`medtex_edge.image.reference`), which gives the same box and the
same pixels. `MEDTEX_EDGE_NATIVE=0` in the environment forces the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import NoFieldOfView
from medtex_edge.image import reference
from medtex_edge.image.pixel_format import BGR, GREY, NV12, RGB, YUYV

U8 = npt.NDArray[np.uint8]

# The memory layouts of a frame, and the shape of such an array: rgb, bgr (H, W, 3); grey (H, W); yuyv (H, W, 2), two
# bytes a pixel; nv12 (3 H / 2, W), a plane of luma over one of chroma. The last two are formats of cameras: BT.601,
# limited range, with even sides.
LAYOUTS = {"rgb": RGB, "bgr": BGR, "grey": GREY, "yuyv": YUYV, "nv12": NV12}

MAX_IMAGE_SIDE = 65535  # pixels; beyond it the circle fit's sums would exceed 64 bits
MAX_BOX_SIDE = 131072  # pixels; beyond it the resize's sums would exceed 32 bits
MAX_OUTPUT_SIDE = 16384

_HINT = "show a fundus photograph: a lit disc, or a part of one, that fills at least a fifth of the frame"


@dataclass(frozen=True)
class FieldOfView:
    """The square box around the disc, in pixels of the image; it may reach beyond the image, where it is black.

    `coverage` is the fraction (0..1) of the box's inscribed disc that lies in the image and is lit: about 0.92
    for a camera that cuts the disc off at top and bottom, 1 for a whole disc.
    """

    left: int
    top: int
    side: int
    coverage: float


def native_or(fallback: Callable[..., Any]) -> Callable[..., Any]:
    """The native module's function of the same name, or `fallback` where it is missing or not wanted."""
    if os.environ.get("MEDTEX_EDGE_NATIVE", "") == "0":
        return fallback
    try:
        from medtex_edge import _native
    except ImportError:  # not built, or for another machine: `medtex-edge doctor` reports which
        return fallback
    function: Callable[..., Any] = getattr(_native, fallback.__name__)
    return function


_detect_fov: Callable[[U8, int], tuple[int, ...]] = native_or(reference.detect_fov)
_crop_resize: Callable[[U8, int, int, int, int, U8], None] = native_or(reference.crop_resize)


def native_available() -> bool:
    """Whether the native module is in use; else it is the numpy reference, because it is missing or by request."""
    return _detect_fov is not reference.detect_fov


def find_field_of_view(image: U8, *, layout: str = "rgb") -> FieldOfView:
    """The box of the lit disc in `image`, uint8 in one of the `LAYOUTS`; rgb and bgr are the same here.

    Only a sparse sample of the frame is read, so that the time hardly grows with its size. The disc may be cut off by
    the frame on any side; a photograph without any border is its own field of view. The border may be grey, coloured,
    noisy or hold text, as long as it is darker than the disc and one corner of the frame shows it.
    Raises `NoFieldOfView` with a description of the frame, `TypeError` or `ValueError` if `image` is no image.
    """
    height, width = _check_image(image, layout)
    detection = reference.FovDetection(*_detect_fov(image, LAYOUTS[layout]))
    if detection.status != reference.FOUND:
        raise NoFieldOfView(
            f"no field of view in a frame of {width} x {height} pixels: {_describe(detection)}", hint=_HINT
        )
    return FieldOfView(detection.left, detection.top, detection.side, detection.lit / detection.total)


def crop_resize(
    image: U8, fov: FieldOfView, height: int, width: int, *, layout: str = "rgb", out: U8 | None = None
) -> U8:
    """Cut the box of `fov` out of `image`, uint8 in one of the `LAYOUTS`, and resize it: (height, width, 3) uint8 RGB.

    Each output pixel is the exact mean of the box over an interval per axis, max(side / n, 1) pixels long and
    centred on it: area averaging where it shrinks, linear interpolation where it enlarges. Beyond the image is black.
    Luma and chroma are averaged first and converted once, which is the same but where a colour is out of range.
    With `out`, a writeable array apart from `image`, nothing is allocated and `out` is returned. Raises `TypeError` or
    `ValueError` for a wrong type, shape or range.
    """
    _check_image(image, layout)
    for name, value, most in (("height", height, MAX_OUTPUT_SIDE), ("width", width, MAX_OUTPUT_SIDE),
                              ("fov.side", fov.side, MAX_BOX_SIDE)):  # fmt: skip
        if not 1 <= value <= most:
            raise ValueError(f"{name}: expected 1 to {most} pixels, got {value}")
    if max(abs(fov.left), abs(fov.top)) > MAX_BOX_SIDE:
        raise ValueError(f"fov: expected a box within {MAX_BOX_SIDE} pixels of the image, got {fov}")
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    else:
        _check_out(out, image, height, width)
    _crop_resize(image, int(fov.left), int(fov.top), int(fov.side), LAYOUTS[layout], out)
    return out


def prepare(
    image: U8, height: int, width: int, *, layout: str = "rgb", out: U8 | None = None
) -> tuple[U8, FieldOfView]:
    """`find_field_of_view` and `crop_resize` in one: the model's input (height, width, 3) uint8 RGB, and its box."""
    fov = find_field_of_view(image, layout=layout)
    return crop_resize(image, fov, height, width, layout=layout, out=out), fov


def _check_image(image: U8, layout: str) -> tuple[int, int]:
    """The frame's height and width in pixels."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image: expected a numpy array, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"image: expected uint8, got {image.dtype}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    depth = {"grey": None, "nv12": None, "yuyv": 2}.get(layout, 3)
    if image.ndim != (3 if depth else 2) or (depth and image.shape[2] != depth):
        wanted = f"(height, width, {depth})" if depth else "(height, width)"
        raise ValueError(f"image: expected the shape {wanted} for {layout}, got {image.shape}")
    if not 1 <= min(image.shape) <= max(image.shape) <= MAX_IMAGE_SIDE:
        raise ValueError(f"image: expected sides of 1 to {MAX_IMAGE_SIDE} pixels, got {image.shape}")
    height, width = image.shape[:2]
    if layout in ("yuyv", "nv12"):
        if width % 2 or height % (3 if layout == "nv12" else 1) or not _packed(image):
            raise ValueError(f"image: expected {layout} with even sides, each row contiguous, got {image.shape}")
        height = height // 3 * 2 if layout == "nv12" else height
    return height, width


def _packed(image: U8) -> bool:
    """Whether the bytes of each row are contiguous; rows may be further apart."""
    return image.strides[-1] == 1 and (image.ndim == 2 or image.strides[1] == image.shape[2])


def _check_out(out: U8, image: U8, height: int, width: int) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a numpy array, got {type(out).__name__}")
    if out.dtype != np.uint8:
        raise TypeError(f"out: expected uint8, got {out.dtype}")
    if out.shape != (height, width, 3):
        raise ValueError(f"out: expected the shape {(height, width, 3)}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out: expected a writeable array, got a read-only one")
    if np.may_share_memory(out, image):
        raise ValueError("out: expected memory of its own, got a part of the image's")


def _describe(detection: reference.FovDetection) -> str:
    figure = detection.figure
    messages = {
        reference.TINY: f"expected at least {reference.MIN_SIDE} pixels a side, got {figure}",
        reference.STRIP: f"a strip {figure} times as long as wide (at most {reference.MAX_ASPECT})",
        reference.BLACK: f"it is black (97 % of it is no brighter than {figure} of 255)",
        reference.WHITE: f"it is overfilled with light (median {figure} of 255)",
        reference.EVEN: f"it is evenly grey, about {figure} of 255, with nothing in it",
        reference.NOISE: f"it is noise: neighbours differ by {figure} % of the spread over the whole frame",
        reference.FAINT: f"nothing stands out of the dark (by {figure} levels of 255, at least 20 are needed)",
        reference.SCATTERED: f"its light is scattered; the largest lit part takes {figure} % and has no shape",
        reference.HOLLOW: f"the outline of a disc, of which only {figure} % is lit",
    }
    return messages[detection.status]
