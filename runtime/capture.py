"""The capture thread: reads a source into slots, keeps the newest frame of a live one, opens it again when it stops.

For files every frame counts and the thread waits for a free slot. For cameras and streams the newest frame wins:
a frame that nobody took is replaced and counted, and while every slot is in use the device is still drained, so
that no driver's queue makes the next frame old. Nothing is ever put in place of a frame that did not come, and
what was held back while frames had stopped is not taken for new (`pace.Pace`).
"""

from __future__ import annotations

import threading
import time
from collections import deque

from medtex_edge.errors import SourceError
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources.base import Ended, FrameSource
from medtex_edge.runtime.sources.reconnect import ArrivalMonitor

SLOTS = 6  # one being filled, one waiting, one being scored, one being drawn, two between them
RETRIES: int | None = None  # attempts to open a live source again: for ever, a device beside a patient waits
_PAUSES = (0.1, 0.2, 0.4)  # seconds before each attempt, then `_LONGEST_PAUSE`
_LONGEST_PAUSE = 0.5  # RTSP itself takes one to be open: a stream that is back is read again within two seconds


class Capture:
    """Slots between a source and whoever reads them. `run` is the thread's body; the rest is for other threads."""

    def __init__(self, source: FrameSource, *, slots: int = SLOTS, retries: int | None = RETRIES) -> None:
        self._source = source
        self._retries = retries
        self._free = [Frame() for _ in range(slots)]
        self._ready: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self.failed = False  # `run` raised
        self._pace = ArrivalMonitor(source.rate, time.monotonic())
        self._lost = False
        self.read = 0
        self.dropped = 0
        self.recoveries = 0

    def run(self) -> None:
        """Read until the source ends, stops for good (`SourceError`) or `stop` is called."""
        self.failed = True
        self._pace = ArrivalMonitor(self._source.rate, time.monotonic())
        try:
            while not self._stop.is_set():
                frame = self._slot()
                if frame is None:
                    if not self._skip():
                        break
                    continue
                if not self._source.read(frame):
                    self.release(frame)
                    if not self._recover():
                        break
                    continue
                self._publish(frame)
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
        return self._pace.silence(time.monotonic()) if self._source.live else 0.0

    def _slot(self) -> Frame | None:
        """A slot to fill. For a live source None when all are in use: the frame on the device is to be skipped."""
        with self._changed:
            if not self._source.live:
                self._changed.wait_for(lambda: self._free or self._stop.is_set())
            # The waiting frame is not taken back for the next one: while that is being read, there would be none.
            return self._free.pop() if self._free else None

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
        self._lost = self._lost or self._pace.silence(now) > 0
        if not self._pace.came(now):
            return False
        if self._lost:
            self._lost = False
            self.recoveries += 1
        return True

    def _skip(self) -> bool:
        if self._stop.is_set():
            return False
        if self._source.skip():
            with self._changed:
                self._is_new()
                self.read += 1
                self.dropped += 1
            return True
        return self._recover()

    def _recover(self) -> bool:
        """Open a live source again, with growing pauses. False where there is nothing to open: it has ended."""
        if not self._source.live:
            return False
        attempt, last = 0, SourceError("", hint="check the cable or the network")
        while self._retries is None or attempt < self._retries:
            if self._stop.wait(_PAUSES[attempt] if attempt < len(_PAUSES) else _LONGEST_PAUSE):
                return False
            try:
                self._source.reopen()
            except Ended:
                return False
            except SourceError as error:
                last = error
            else:
                self._pace.lose()
                return True
            self._pace.lose()
            attempt += 1
        tried = f", and {attempt} attempts in {self.lost_s():.0f} s to open it again failed. {last.message}"
        raise SourceError(f"{self._source.name}: stopped giving frames{tried if attempt else ''}", hint=last.hint)
