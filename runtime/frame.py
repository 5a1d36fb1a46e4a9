"""A frame: the slot that carries one picture from the source to the screen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(eq=False)
class Frame:
    """One slot, used again and again; a source fills it in place where the size allows.

    `pixels` is uint8 as the source delivers it, in one of `medtex_edge.image.geometry.LAYOUTS`: (H, W, 3) BGR as OpenCV
    decodes it, or the camera's own YUYV or NV12; None where `error` holds the reason. One thread owns the slot at a
    time: capture, then inference, then drawing, which draws into `pixels` where they are BGR.
    """

    pixels: Pixels | None = None
    layout: str = "bgr"
    source: str = ""  # the photograph's path, the camera or the stream, without passwords
    index: int = 0  # counts every frame that the source gave, dropped ones too
    captured: float = 0.0  # time.monotonic() of the exposure if the driver reports it, else of its arrival
    read_ms: float = 0.0  # how long the source took to hand it over and decode it
    error: str = ""
    # Kept in addition to `pixels` so that one unreadable photograph does not cost the buffer.
    buffer: Pixels | None = field(default=None, repr=False)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels; None where there are none."""
        if self.pixels is None:
            return None
        rows, columns = self.pixels.shape[:2]
        return columns, rows // 3 * 2 if self.layout == "nv12" else rows
