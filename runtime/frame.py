"""A frame: the slot that carries one picture from the source to the screen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(eq=False)
class Frame:
    """One slot, used again and again; a source fills it in place where the size allows.

    `pixels` is (H, W, 3) uint8 BGR, as cameras and OpenCV have it, or None where `error` says why there are none.
    Whoever holds the slot owns it: the capture thread, then inference, then drawing, which draws into `pixels`.
    """

    pixels: Pixels | None = None
    source: str = ""  # the photograph's path, the camera or the stream, without passwords
    index: int = 0  # counts every frame that the source gave, dropped ones too
    captured: float = 0.0  # time.monotonic() of the exposure if the driver tells, else of its arrival
    read_ms: float = 0.0  # how long the source took to hand it over and decode it
    error: str = ""
    # Kept beside `pixels` so that one unreadable photograph does not cost the buffer.
    buffer: Pixels | None = field(default=None, repr=False)
