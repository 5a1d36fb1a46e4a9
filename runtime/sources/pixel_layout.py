"""The shape of a raw frame in a camera's own layout, and a view of its bytes in that shape, without a copy."""

from __future__ import annotations

import numpy as np

from medtex_edge.errors import SettingsError
from medtex_edge.runtime.frame import Pixels

RAW = ("bgr", "nv12", "yuyv", "grey")  # of medtex_edge.image.geometry.LAYOUTS, those that a source may deliver


def shape(layout: str, width: int, height: int) -> tuple[int, ...]:
    """The shape of a frame of width x height pixels. Raises `SettingsError` for odd sides."""
    if (layout in ("yuyv", "nv12") and width % 2) or (layout == "nv12" and height % 2):
        raise SettingsError(f"{layout}: expected even sides, got {width}x{height}", hint="such as --size 1280x720")
    return {
        "bgr": (height, width, 3), "nv12": (height * 3 // 2, width), "yuyv": (height, width, 2),
        "grey": (height, width),
    }[layout]  # fmt: skip


def view(pixels: Pixels, wanted: tuple[int, ...]) -> Pixels | None:
    """`pixels` in the shape `wanted`, without a copy; None where their number differs, or they are not plain bytes.

    Releases of OpenCV differ: some return a camera's bytes in their shape, some as one long row.
    """
    if pixels.dtype != np.uint8 or pixels.size != int(np.prod(wanted)) or not pixels.flags.c_contiguous:
        return None
    return pixels.reshape(wanted)
