"""Writes short videos for tests."""

from __future__ import annotations

from pathlib import Path

import bundles
import cv2


def write_video(path: Path, frames: int = 12, size: tuple[int, int] = (320, 240)) -> Path:
    """A short video of moving noise on a disc."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for index in range(frames):
        writer.write(bundles.disc(size[1], width=size[0], seed=index))
    writer.release()
    return path
