"""What every source of frames has in common: the protocol that the capture thread reads.

Cameras and streams are *live*: the newest frame wins, and a frame's age matters. In files every frame counts.
"""

from __future__ import annotations

from typing import Protocol

from medtex_edge.runtime.frame import Frame


class Ended(Exception):
    """There is nothing to open again: whoever wrote into standard input has closed it."""


class FrameSource(Protocol):
    """A context manager that fills frames. Used by one thread at a time."""

    name: str
    live: bool  # the newest frame wins; it can be stale, stop, and be opened again
    stream: bool  # frames follow each other in time, so that one can be a duplicate of the one before
    rate: float  # frames per second that it claims; 0 where it does not say
    count: int | None  # frames in all, where that is known

    @property
    def notes(self) -> list[str]:
        """What the user should be told at the end."""

    def read(self, frame: Frame) -> bool:
        """Fill `frame`; False where there is none (a file has ended, a camera has stopped)."""

    def skip(self) -> bool:
        """Take a frame off the source without decoding it; False as in `read`."""

    def reopen(self) -> None:
        """Close and open again. Raises `SourceError` with what was tried, `Ended` where it was the end."""

    def close(self) -> None:
        """Give the device or file back. May be called twice."""
