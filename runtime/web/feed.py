"""From the newest frame to one message for every viewer: the bare picture as JPEG, its map, its reading.

    4 bytes  length of the header, little endian
    header   JSON, UTF-8: reading, clocks, sizes
    map      rows x columns bytes, saliency 0..255; absent where there is none
    picture  JPEG of the frame with nothing drawn into it

The browser draws the map, on the same fixed scale; so the overlay is each viewer's choice and costs this machine
nothing. Picture and reading are one message, so that no picture is shown with another's reading.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from medtex_edge.contract import Contract
from medtex_edge.runtime.display.latest_frame import LatestFrame, Picture, scaled
from medtex_edge.runtime.display.overlay import scale
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.sources.base import FrameSource

LARGEST = (1920, 1080)  # pixels; a larger picture is made smaller
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Message:
    """What is sent for one frame. `serial` counts the frames that were offered, from 1."""

    serial: int
    data: bytes


class Feed:
    """`offer` is for the showing thread; the rest is for the page's own."""

    def __init__(self, contract: Contract, sha256: str, source: FrameSource) -> None:
        self._contract, self._sha256, self._source = contract, sha256, source
        self._latest = LatestFrame()
        self._small: Pixels | None = None
        self._buffers = threading.Lock()
        self._message: Message | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.watched = False  # there are viewers to notify of a new frame
        self.why = ""  # why the source is lost
        self.progress = ""  # of an engine that is being built

    def open(self) -> None:
        """To be called in the loop that the viewers are served from."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._encoding = asyncio.Lock()

    def offer(self, pixels: Pixels, reading: Reading, captured: float, frames_per_second: float | None) -> None:
        """Copy a frame and its reading. Never waits, and never fails for a page that is gone."""
        self._latest.offer(pixels, reading, captured, frames_per_second)
        if self.watched and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._notify)

    async def after(self, serial: int, seconds: float) -> Message | None:
        """The newest frame if it is newer than `serial`, waiting so long for one; encoded once for all viewers."""
        end = time.monotonic() + seconds
        while self._latest.serial <= serial:
            left = end - time.monotonic()
            if left <= 0:
                return None
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        async with self._encoding:
            if self._message is None or self._message.serial <= serial:
                await asyncio.to_thread(self._encode)
        return self._message

    def hello(self) -> str:
        """What stays the same for the whole run."""
        c, (colour, alpha) = self._contract, scale()
        return json.dumps(
            {
                "hello": {
                    "name": c.name,
                    "classes": c.classes,
                    "referable": c.referable,
                    "threshold": c.operating_point.threshold,
                    "source": self._source.name,
                    "live": self._source.live,
                    "stream": self._source.stream,
                    "colour": colour[:, ::-1].tolist(),
                    "alpha": [round(float(value), 4) for value in alpha],
                },
                **self._clock(),
            }
        )

    def state(self) -> str:
        """Sent where there is no new frame, so that a browser can distinguish a lost source from a lost machine."""
        return json.dumps(self._clock())

    def _clock(self) -> dict[str, Any]:
        return {"now": time.monotonic() * 1e3, "why": self.why, "progress": self.progress}

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _encode(self) -> None:
        # A viewer that leaves does not end the encoding that it waited for, and buffers are for one at a time.
        with self._buffers:
            picture = self._latest.take()
            if picture is not None:
                self._message = self._made(picture)

    def _made(self, picture: Picture) -> Message:
        pixels, share = self._fit(picture)
        reading = scaled(picture.reading, share)
        _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        grid = b""
        shape: tuple[int, ...] = (0, 0)
        if reading.saliency is not None:
            shape = reading.saliency.shape
            grid = np.round(np.nan_to_num(reading.saliency).clip(0, 1) * 255).astype(np.uint8).tobytes()
        header = {
            "serial": picture.serial,
            "captured": picture.captured * 1e3,
            "rate": picture.frames_per_second,
            "reading": reading.to_json(self._contract, self._sha256),
            "grid": shape,
            **self._clock(),
        }
        head = json.dumps(header, allow_nan=False).encode()
        return Message(picture.serial, b"".join((struct.pack("<I", len(head)), head, grid, jpeg.data)))

    def _fit(self, picture: Picture) -> tuple[Pixels, float]:
        """The picture, made smaller where it is larger than a screen, and how large it is then."""
        height, width = picture.pixels.shape[:2]
        share = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
        if share == 1.0:
            return picture.pixels, share
        size = (max(1, round(width * share)), max(1, round(height * share)))
        if self._small is None or self._small.shape[1::-1] != size:
            self._small = np.empty((size[1], size[0], 3), np.uint8)
        cv2.resize(picture.pixels, size, dst=self._small, interpolation=cv2.INTER_AREA)
        return self._small, share
