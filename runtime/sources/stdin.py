"""Standard input as a source: MJPEG, or raw frames of one size. Live: the newest frame wins; its end ends the run.

What a program beside this one sees of the camera can be piped in, whatever the camera:
rpicam-vid, libcamera-vid, ffmpeg, gst-launch-1.0.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from medtex_edge.errors import SettingsError, SourceError
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.sources import jpeg, pixel_layout
from medtex_edge.runtime.sources.base import Ended
from medtex_edge.runtime.sources.bytestream import CHUNK, QUIET_S, ByteStream, MjpegStream, readable

NAME = "standard input"
FORMATS = ("mjpeg", *pixel_layout.RAW)


def open_stdin(kind: str | None, size: tuple[int, int] | None) -> StdinMjpeg | StdinRaw:
    """Standard input as `kind`, one of FORMATS, of `size` (width, height) where it is raw.

    Raises `SettingsError` for a raw format without a size, `SourceError` where nothing is piped in.
    """
    if kind in (None, "mjpeg"):
        if size is not None:
            raise SettingsError("--size: MJPEG says its own size", hint="leave it out, or give --format for raw frames")
        return StdinMjpeg()
    assert kind is not None
    if size is None:
        raise SettingsError(f"--format {kind}: expected --size too", hint="such as --size 1280x720")
    return StdinRaw(kind, size)


class StdinMjpeg(MjpegStream):
    """MJPEG on standard input."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self._input = _Input()

    def read(self, frame: Frame) -> bool:
        """Fill `frame` with the newest whole picture. Raises `SourceError` if the input ended without any."""
        if super().read(frame):
            return True
        self._input.check_frames(self._index)
        return False

    def reopen(self) -> None:
        """Wait on. Raises `Ended` at the end."""
        self._input.check()

    def _more(self) -> bytes:
        return self._input.read(CHUNK) if self._waiting(QUIET_S) else b""

    def _waiting(self, seconds: float) -> bool:
        return not self._input.ended and readable(self._input.number, seconds)


class StdinRaw(ByteStream):
    """Frames of one size and layout on standard input, without anything between them."""

    def __init__(self, kind: str, size: tuple[int, int]) -> None:
        super().__init__(NAME)
        self._kind, self._shape = kind, pixel_layout.shape(kind, *size)
        length = int(np.prod(self._shape))
        if length > 3 * jpeg.MAX_PIXELS:
            raise SettingsError(f"--size: expected at most {jpeg.MAX_PIXELS / 1e6:.0f} megapixels, got {size}")
        self._filling: Pixels = np.empty(length, np.uint8)
        self._at = 0
        self._began = 0.0
        self._input = _Input()

    def read(self, frame: Frame) -> bool:
        """Fill `frame`; False where it does not come whole within a second. What has come of it is kept."""
        if not self._complete():
            self._input.check_frames(self._index)
            return False
        # The slot's last buffer is the next to be filled: no frame is copied, none allocated.
        whole, spare = self._filling, frame.buffer
        self._filling = spare if spare is not None and spare.shape == whole.shape else np.empty_like(whole)
        frame.buffer = whole
        self._fill(frame, whole.reshape(self._shape), self._kind, captured=self._began, began=self._began)
        return True

    def skip(self) -> bool:
        """Read past a frame."""
        whole = self._complete()
        self._index += whole
        return whole

    def reopen(self) -> None:
        """Wait on. Raises `Ended` at the end."""
        self._input.check()

    def _complete(self) -> bool:
        deadline = time.monotonic() + QUIET_S
        target = self._filling.data
        while self._at < len(target):
            if not readable(self._input.number, max(0.0, deadline - time.monotonic())):
                return False
            count = self._input.read_into(target[self._at :])
            if count == 0:
                self.broken += self._at > 0
                self._at = 0
                return False
            if self._at == 0:
                self._began = time.monotonic()
            self._at += count
        self._at = 0
        return True


class _Input:
    """Standard input, unbuffered."""

    def __init__(self) -> None:
        try:
            self.number = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError):
            raise SourceError("standard input is closed", hint="pipe a stream into it") from None
        if os.isatty(self.number):
            raise SourceError(
                "standard input is a keyboard, expected a stream of MJPEG or raw frames",
                hint="such as: rpicam-vid -t 0 --codec mjpeg -o - | medtex-edge run --source -",
            )
        self.ended = False

    def read(self, most: int) -> bytes:
        """What is there, waited for; nothing at the end."""
        data = os.read(self.number, most)
        self.ended = not data
        return data

    def read_into(self, target: memoryview) -> int:
        """The same into a buffer. Returns how many bytes."""
        count = os.readv(self.number, [target])
        self.ended = count == 0
        return count

    def check(self) -> None:
        """Raises `Ended`."""
        if self.ended:
            raise Ended

    def check_frames(self, count: int) -> None:
        """Raises `SourceError` if it has ended and there was none."""
        if self.ended and count == 0:
            raise SourceError(
                f"{NAME}: ended without a whole frame",
                hint="does the program before the pipe run, and write what --format says?",
            )
