"""A frame in every layout that a camera delivers, and in every memory order that numpy can give it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

VIEWS: dict[str, Any] = {
    "packed": lambda a: a,
    "rgb": lambda a: a[..., ::-1],
    "upside down": lambda a: a[::-1],
    "mirrored": lambda a: a[:, ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "four channels": lambda a: np.concatenate([a, a[..., :1]], axis=2)[..., :3],
}


def as_layout(frame: npt.NDArray[np.uint8], layout: str) -> npt.NDArray[np.uint8]:
    """A BGR frame as a camera of that layout would deliver it."""
    if layout == "grey":
        return cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    if layout == "yuyv":
        return cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_YUYV)
    height, width = frame.shape[:2]
    planar = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
    chroma = planar[height:].reshape(2, -1)
    return np.vstack([planar[:height], np.stack([chroma[0], chroma[1]], axis=-1).reshape(height // 2, width)])
