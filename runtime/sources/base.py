"""The protocol of every source of frames, which the capture thread reads.

Cameras and streams are *live*: the newest frame wins, and a frame's age matters. In files every frame counts.
"""

from __future__ import annotations

from typing import Protocol

from medtex_edge.runtime.frame import Frame


class Ended(Exception):
    """The source cannot be reopened: the program that wrote into standard input has closed it."""


class FrameSource(Protocol):
    """A context manager that fills frames. Used by one thread at a time."""

    name: str
    live: bool  # the newest frame wins; it can be stale, stop, and be opened again
    stream: bool  # frames follow each other in time, so that one can be a duplicate of the one before
    rate: float  # frames per second that it claims; 0 where it claims none
    count: int | None  # frames in all; None where that is unknown

    @property
    def notes(self) -> list[str]:
        """Lines for the user at the end of the run."""

    def read(self, frame: Frame) -> bool:
        """Fill `frame`; False where there is none (a file has ended, a camera has stopped)."""

    def skip(self) -> bool:
        """Take a frame off the source without decoding it; False as in `read`."""

    def reopen(self) -> None:
        """Close and open again. Raises `SourceError` with the attempts, `Ended` where the sender has ended."""

    def close(self) -> None:
        """Release the device or file. May be called twice."""
