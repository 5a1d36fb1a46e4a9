"""Byte streams that are read without FFmpeg: the common part of MJPEG over HTTP and standard input.

There are two reasons for a reader of our own. FFmpeg completes a cut JPEG with the rest of the picture before it. And
here a frame's age counts from the arrival of its first byte: one that was half sent when the sender stopped is old when
it is whole.
"""

from __future__ import annotations

import select
import time
from types import TracebackType

from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.sources import jpeg

QUIET_S = 1.0  # without a whole picture, after which the stream counts as stopped
CHUNK = 1 << 16  # bytes; a pipe holds as many
_BACKLOG = 1 << 22  # bytes that are read past for a newer frame, so that a sender without end cannot hold the reader


class ByteStream:
    """The base of the sources that read bytes themselves."""

    live = True
    stream = True
    rate = 0.0
    count: int | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.broken = 0  # damaged frames, which were dropped
        self._index = 0

    @property
    def notes(self) -> list[str]:
        """Lines for the user at the end of the run."""
        return [f"{self.name}: {self.broken} damaged frames were left out"] if self.broken else []

    def read(self, frame: Frame) -> bool:
        """Fill `frame` with the newest whole picture; False where none comes within a second."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection. May be called twice."""

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self, frame: Frame, pixels: Pixels, kind: str, captured: float, began: float) -> None:
        frame.pixels, frame.layout = pixels, kind
        frame.source, frame.index, frame.error = self.name, self._index, ""
        frame.captured, frame.read_ms = captured, (time.monotonic() - began) * 1e3
        self._index += 1


class MjpegStream(ByteStream):
    """JPEG pictures, one after the other; whatever lies between them is ignored."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._splitter = jpeg.Splitter()
        self._undecodable = 0

    def read(self, frame: Frame) -> bool:
        """Fill `frame` with the newest whole picture; False where none comes within a second."""
        while (found := self._latest_picture()) is not None:
            data, captured = found
            began = time.monotonic()
            pixels = jpeg.decode(data)
            if pixels is not None:
                self._fill(frame, pixels, "bgr", captured, began)
                return True
            self._undecodable += 1
            self._count()
        return False

    def skip(self) -> bool:
        """Take the newest picture without decoding it."""
        if self._latest_picture() is None:
            return False
        self._index += 1
        return True

    def _latest_picture(self) -> tuple[bytes, float] | None:
        """Wait for a whole picture, then read on as long as more is there."""
        latest: tuple[bytes, float] | None = None
        read, deadline = 0, time.monotonic() + QUIET_S
        while latest is None or (read < _BACKLOG and self._waiting(0.0)):
            data = self._more() if time.monotonic() < deadline else b""
            if not data:
                break
            read += len(data)
            latest = self._splitter.feed(data, time.monotonic()) or latest
        self._count()
        return latest

    def _count(self) -> None:
        self.broken = self._splitter.broken + self._undecodable

    def _more(self) -> bytes:
        """Wait for some bytes; none if there are none for a second, or the stream has ended."""
        raise NotImplementedError

    def _waiting(self, seconds: float) -> bool:
        """Whether bytes can be read within `seconds`."""
        raise NotImplementedError


def readable(number: int, seconds: float) -> bool:
    """Whether the file descriptor `number` has bytes, or has ended, within `seconds`."""
    poll = select.poll()  # not select(), which knows no descriptor above 1023
    poll.register(number, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))
