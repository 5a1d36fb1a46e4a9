"""JPEG pictures out of an untrusted stream of bytes: found, bounded in size, and refused where not whole.

FFmpeg completes a cut picture from the picture before it. That cannot be detected afterwards and must not be scored.
Here a picture ends with its end marker and nowhere else, and a picture that OpenCV cannot decode to its end is dropped.
"""

from __future__ import annotations

import re

import cv2
import numpy as np

from medtex_edge.image.header import HeaderError, read_header
from medtex_edge.runtime.frame import Pixels

MAX_BYTES = 1 << 24  # of one picture; a 4K frame of highest quality has about half of that
MAX_PIXELS = 36_000_000  # of one picture; 8K has 33 million

_START = b"\xff\xd8\xff"
# In entropy-coded data FF 00 is a byte, FF D0..D7 a restart, FF FF padding; all else is a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA


class Splitter:
    """Finds whole pictures (ITU-T T.81 annex B) in the bytes given to `feed`; bytes between pictures are ignored."""

    def __init__(self) -> None:
        self.broken = 0  # pictures that were begun and not ended
        self._data = bytearray()
        self._at = 0  # of `_data`, which starts with a picture where this is not 0
        self._scan = False  # within entropy-coded data
        self._began = 0.0

    def feed(self, data: bytes, now: float) -> tuple[bytes, float] | None:
        """The newest picture that `data` completes, and when its first bytes were fed (`now` of that call)."""
        self._data += data
        latest: tuple[bytes, float] | None = None
        while (length := self._advance(now)) > 0:
            latest = bytes(self._data[:length]), self._began
            self._drop(length)
        if len(self._data) > MAX_BYTES:
            self._break(len(self._data))
        return latest

    def _advance(self, now: float) -> int:
        """Parse on. The length of the picture at the start once its end was found; else 0."""
        while True:
            if self._at == 0:
                start = self._data.find(_START)
                if start < 0:
                    # The last two bytes may be a beginning.
                    del self._data[: max(0, len(self._data) - 2)]
                    return 0
                del self._data[:start]
                self._at, self._began = 2, now
            if self._scan:
                found = _MARKER.search(self._data, self._at)
                if found is None:
                    self._at = max(self._at, len(self._data) - 1)
                    return 0
                self._at, self._scan = found.start(), False
            if len(self._data) < self._at + 4:
                # An end marker may be the last that there is.
                return self._at + 2 if self._data[self._at : self._at + 2] == b"\xff\xd9" else 0
            if not self._segment():
                return self._at + 2

    def _segment(self) -> bool:
        """Step over the marker at `_at` and what belongs to it; False at the end of the picture."""
        lead, marker = self._data[self._at], self._data[self._at + 1]
        if lead == 0xFF and marker == 0xFF:
            self._at += 1
        elif lead == 0xFF and marker == _EOI:
            return False
        elif lead != 0xFF or marker == _SOI or marker < 0xC0:
            self._break(self._at)
        else:
            self._at += 2 + int.from_bytes(self._data[self._at + 2 : self._at + 4], "big")
            self._scan = marker == _SOS
        return True

    def _break(self, length: int) -> None:
        self.broken += 1
        self._drop(length)

    def _drop(self, length: int) -> None:
        del self._data[:length]
        self._at, self._scan = 0, False


def decode(data: bytes) -> Pixels | None:
    """(H, W, 3) uint8 BGR; None where the picture is damaged, or larger than `MAX_PIXELS`."""
    try:
        header = read_header(data)
        if header.kind != "JPEG" or not 0 < header.width * header.height <= MAX_PIXELS:
            return None
        # As stored: a stream whose pictures turn themselves would not keep its geometry.
        how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except (HeaderError, cv2.error):
        return None
    return None if pixels is None or _is_filled(pixels) else pixels


def _is_filled(pixels: Pixels) -> bool:
    """Whether data were missing before the end marker: libjpeg fills the rest, exactly, with the middle grey."""
    corner = pixels[-8:, -8:]
    return bool((corner == 128).all())
