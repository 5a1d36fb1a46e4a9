"""Reconnecting a camera or stream whose frames have stopped.

Three questions are answered here: have the frames stopped (`ArrivalMonitor.silence_s`), how is the source opened again
(`Reconnector`, with growing pauses), and is a frame that comes after that truly new (`ArrivalMonitor.record`).
"""

from __future__ import annotations

import threading
import time

from medtex_edge.errors import SourceError
from medtex_edge.runtime.sources.base import Ended, FrameSource

RETRIES: int | None = None  # attempts to open a live source again: for ever, a device with a patient in front waits
LOST_AFTER_S = 0.9  # without a frame; a display that polls twenty times a second then reports it within one second
SETTLE_S = 0.5  # after a loss; a source whose frames still come in one burst by then is simply a fast one
_PAUSES_S = (0.1, 0.2, 0.4)  # before each attempt, then `_LONGEST_PAUSE_S`
_LONGEST_PAUSE_S = 0.5  # opening RTSP takes another half: a stream that is back is read again within two seconds
_RATE = 25.0  # frames per second, of a source that reports none and was not measured yet
_WEIGHT = 0.1  # of the latest interval in the usual one


class Reconnector:
    """Opens a live source again until it is back, it has ended, or the attempts are used up.

    `retries` is the number of attempts after each loss; None: without end.
    """

    def __init__(self, source: FrameSource, arrivals: ArrivalMonitor, *, retries: int | None = RETRIES) -> None:
        self._source = source
        self._arrivals = arrivals
        self._retries = retries

    def reopen(self, stop: threading.Event) -> bool:
        """Open the source again, with a growing pause before each attempt. Blocks until it is open or `stop` is set.

        Returns False where no frame will come: the source is a file, its sender has closed it, or `stop` is set.
        Raises `SourceError` with the last attempt's reason when every attempt has failed.
        """
        if not self._source.live:
            return False
        attempt, last = 0, SourceError("", hint="check the cable or the network")
        while self._retries is None or attempt < self._retries:
            if stop.wait(_PAUSES_S[attempt] if attempt < len(_PAUSES_S) else _LONGEST_PAUSE_S):
                return False
            try:
                self._source.reopen()
            except Ended:
                return False
            except SourceError as error:
                last = error
            else:
                self._arrivals.mark_lost()
                return True
            self._arrivals.mark_lost()
            attempt += 1
        silence_s = self._arrivals.silence_s(time.monotonic())
        tried = f", and {attempt} attempts in {silence_s:.0f} s to open it again failed. {last.message}"
        raise SourceError(f"{self._source.name}: stopped giving frames{tried if attempt else ''}", hint=last.hint)


class ArrivalMonitor:
    """Learns the usual interval between the frames of one source; all times are seconds of `time.monotonic()`.

    During a loss a server, a driver or a network may hold frames back. They come in one burst when the loss is over,
    and look new. A frame that had to be waited for was not held back. So the first frame after a loss, whose wait is
    that of the loss, is refused, and so is every frame that follows faster than the usual interval: for `SETTLE_S` at
    most.

    `rate` is in frames per second, as the source reports it; 0 where it reports none.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._usual = 1.0 / (rate or _RATE)  # until it is measured
        self._measured = -1  # intervals; the first frame has none
        self._last = now
        self._lost = False
        self._settled_by: float | None = None  # the first frame after a loss sets the time

    def mark_lost(self) -> None:
        """Record that the source itself has reported a stop."""
        self._lost = True
        self._settled_by = None

    def silence_s(self, now: float) -> float:
        """Seconds since the last frame if the source has stopped, else 0. Any thread may call it."""
        gap = now - self._last
        return gap if self._lost or gap > LOST_AFTER_S else 0.0

    def record(self, now: float) -> bool:
        """Record the arrival of a frame. True if it may be taken as new, False if it may have been held back."""
        interval, self._last = now - self._last, now
        if interval > LOST_AFTER_S:
            self.mark_lost()
        if not self._lost:
            self._measured += 1
            if self._measured > 0:
                self._usual += max(_WEIGHT, 1 / self._measured) * (interval - self._usual)
            return True
        if self._settled_by is None:
            self._settled_by = now + SETTLE_S
            return False
        if interval < 0.5 * self._usual and now < self._settled_by:
            return False
        self._lost = False
        return True
