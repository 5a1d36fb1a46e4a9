"""The sink of drawn frames: a video file, written by OpenCV."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

import cv2

from medtex_edge.errors import SettingsError, StorageError
from medtex_edge.files import atomic_path, storage
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.sinks.base import discard

VIDEO_CODES = {".mp4": "mp4v", ".avi": "MJPG"}
DEFAULT_RATE = 25.0  # frames per second of a video whose source does not say
LONGEST_HOLD_S = 1.0  # a gap in a live source is shown for at most this long
SPARE_BYTES = 16 << 20  # OpenCV's writer does not report a full disk, so writing stops before it is full


class VideoSink:
    """A video of the drawn frames. Frames of a live source are held so that the video plays at true speed."""

    def __init__(self, path: Path, rate: float, *, live: bool) -> None:
        if path.suffix.lower() not in VIDEO_CODES:
            raise SettingsError(f"--save: expected a name that ends in {' or '.join(VIDEO_CODES)}, got {path}")
        self.name = f"video {path}"
        self._path, self._live = path, live
        self._rate = rate if rate > 0 else DEFAULT_RATE
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path))
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._began = 0.0
        self._written = 0

    def write(self, reading: Reading, pixels: Pixels | None) -> None:
        """Append one frame; one of another size than the first is fitted into it. Raises `StorageError`."""
        if pixels is None:
            return
        if self._writer is None:
            self._open(pixels, reading)
        if self._written % 16 == 0:
            self._check_space()
        width, height = self._size
        if pixels.shape[1] // 2 * 2 != width or pixels.shape[0] // 2 * 2 != height:
            pixels = _letterbox(pixels, width, height)
        pixels = pixels[:height, :width]
        for _ in range(self._due(reading)):
            assert self._writer is not None
            self._writer.write(pixels)
            self._written += 1

    def close(self) -> None:
        """Finish the container, look whether it can be read, give it its name; without a frame there is none."""
        if self._writer is None:
            self.abandon()
            return
        self._writer.release()
        self._writer = None
        check = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        frames = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if frames < self._written * 0.98 - 2:
            self.abandon()
            raise StorageError(
                f"cannot write {self._path}: {frames} of {self._written} frames arrived in the file",
                hint="look at the disk's free space",
            )
        with storage(self._path):
            self._stack.close()

    def abandon(self) -> None:
        """Remove the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        discard(self._stack)

    def _open(self, pixels: Pixels, reading: Reading) -> None:
        # Codecs halve the colour's resolution, so sides are even.
        self._size = (pixels.shape[1] // 2 * 2, pixels.shape[0] // 2 * 2)
        code = VIDEO_CODES[self._path.suffix.lower()]
        fourcc = cv2.VideoWriter.fourcc(*code)
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, self._rate, self._size)
        if not writer.isOpened():
            raise StorageError(
                f"cannot write {self._path}: this OpenCV has no encoder {code} for "
                f"{self._size[0]} x {self._size[1]} pixels",
                hint="try the other of .mp4 and .avi, or a folder",
            )
        self._writer = writer
        self._began = reading.captured.timestamp()

    def _due(self, reading: Reading) -> int:
        """How often this frame is written: once, or as often as the clock asks for a live source."""
        if not self._live:
            return 1
        due = round((reading.captured.timestamp() - self._began) * self._rate) + 1 - self._written
        longest = round(LONGEST_HOLD_S * self._rate)
        if due > longest:  # a gap: the video goes on from here instead of standing still
            self._began += (due - longest) / self._rate
            due = longest
        return max(due, 0)

    def _check_space(self) -> None:
        with storage(self._path):
            disk = os.statvfs(self._temporary.parent)
            if disk.f_bavail * disk.f_frsize < SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _letterbox(pixels: Pixels, width: int, height: int) -> Pixels:
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    right, below = width - size[0], height - size[1]
    return cv2.copyMakeBorder(  # type: ignore[no-any-return]
        small, below // 2, below - below // 2, right // 2, right - right // 2, cv2.BORDER_CONSTANT
    )
