"""When the frames of a live source come: whether they have stopped, and whether one that came is truly new."""

from __future__ import annotations

LOST_AFTER_S = 0.9  # without a frame; with a display that looks twenty times a second, said within one second
SETTLE_S = 0.5  # after a loss; a source whose frames still come in one burst by then is simply a fast one
_RATE = 25.0  # frames per second, of a source that does not say and was not seen running
_WEIGHT = 0.1  # of the latest interval in the usual one


class ArrivalMonitor:
    """Fed with the arrival of every frame, in seconds of `time.monotonic()`.

    What a server, a driver or a network held back during a loss comes in one burst when it is over, and looks as if
    it were new. A frame that had to be waited for was not held back. So after a loss the first frame, whose wait is
    that of the loss, and all that follow faster than the usual pace are refused: for `SETTLE_S` at most.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._usual = 1.0 / (rate or _RATE)  # until it is measured
        self._measured = -1  # intervals; the first frame has none
        self._last = now
        self._lost = False
        self._settled_by: float | None = None  # the first frame after a loss sets the time

    def lose(self) -> None:
        """The source says itself that it has stopped."""
        self._lost = True
        self._settled_by = None

    def silence(self, now: float) -> float:
        """Seconds since the last frame if the source has stopped, else 0. May be called by any thread."""
        gap = now - self._last
        return gap if self._lost or gap > LOST_AFTER_S else 0.0

    def came(self, now: float) -> bool:
        """Count a frame. Whether it may be taken as new."""
        interval, self._last = now - self._last, now
        if interval > LOST_AFTER_S:
            self.lose()
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
