"""The capture thread: reads a source into slots, keeps the newest frame of a live one, reconnects it when it stops.

In a file every frame counts, so the thread waits for a free slot. Of a camera or stream the newest frame wins: a frame
that was not taken in time is replaced and counted. While every slot is in use the device is still drained, so that no
driver's queue makes the next frame old. A missing frame is never replaced by another one, and a frame that was held
back during a loss is not taken for a new one (`medtex_edge.runtime.sources.reconnect`).
"""

from __future__ import annotations

import threading
import time
from collections import deque

from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.sources.reconnect import RETRIES, ArrivalMonitor, Reconnector

SLOTS = 6  # one being filled, one waiting, one being scored, one being drawn, two between them


class Capture:
    """Slots between a source and whoever reads them. `run` is the thread's body; the rest is for other threads."""

    def __init__(self, source: FrameSource, *, slots: int = SLOTS, retries: int | None = RETRIES) -> None:
        self._source = source
        self._free = [Frame() for _ in range(slots)]
        self._ready: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self.failed = False  # `run` raised
        self._retries = retries
        self._arrivals = ArrivalMonitor(source.rate, time.monotonic())
        self._lost = False
        self.read = 0
        self.dropped = 0
        self.recoveries = 0

    def run(self) -> None:
        """Read until the source ends, stops for good (`SourceError`) or `stop` is called."""
        self.failed = True
        self._arrivals = ArrivalMonitor(self._source.rate, time.monotonic())
        reconnector = Reconnector(self._source, self._arrivals, retries=self._retries)
        try:
            while not self._stop.is_set():
                frame = self._slot()
                arrived = self._skip() if frame is None else self._read(frame)
                if not arrived and not (self._stop.is_set() or reconnector.reopen(self._stop)):
                    break
            self.failed = False
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def next(self) -> Frame | None:
        """The next frame (the newest of a live source), waiting for it; None when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._stop.is_set())
            if self._stop.is_set() or not self._ready:
                return None
            return self._ready.popleft()

    def release(self, frame: Frame) -> None:
        """Give a slot back."""
        with self._changed:
            self._free.append(frame)
            self._changed.notify_all()

    def stop(self) -> None:
        """End `run` after the read that it is in, and `next` at once."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def lost_s(self) -> float:
        """For how many seconds a live source has given no picture, if that is too long; 0 while it runs.

        By the clock alone, whatever the capture thread waits for: a driver that blocks is noticed too.
        """
        return self._arrivals.silence_s(time.monotonic()) if self._source.live else 0.0

    def _slot(self) -> Frame | None:
        """A slot to fill. For a live source None when all are in use: the frame on the device is to be skipped."""
        with self._changed:
            if not self._source.live:
                self._changed.wait_for(lambda: self._free or self._stop.is_set())
            # The waiting frame is not taken back for the next one: while that is being read, there would be none.
            return self._free.pop() if self._free else None

    def _read(self, frame: Frame) -> bool:
        """Fill a slot and publish it; False where the source gave no frame."""
        if not self._source.read(frame):
            self.release(frame)
            return False
        self._publish(frame)
        return True

    def _publish(self, frame: Frame) -> None:
        with self._changed:
            self.read += 1
            if self._source.live:
                if not self._is_new():
                    self.dropped += 1
                    self._free.append(frame)
                    return
                self.dropped += len(self._ready)
                self._free.extend(self._ready)
                self._ready.clear()
            self._ready.append(frame)
            self._changed.notify_all()

    def _is_new(self) -> bool:
        """Whether the frame that has just come is one, and count the recovery that it may be."""
        now = time.monotonic()
        self._lost = self._lost or self._arrivals.silence_s(now) > 0
        if not self._arrivals.record(now):
            return False
        if self._lost:
            self._lost = False
            self.recoveries += 1
        return True

    def _skip(self) -> bool:
        """Take a frame off the device that no slot is free for; False where the source gave none."""
        if self._stop.is_set() or not self._source.skip():
            return False
        with self._changed:
            self._is_new()
            self.read += 1
            self.dropped += 1
        return True
