"""Photographs as a source: files, one frame each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2

from medtex_edge.errors import ImageError
from medtex_edge.image.photo import read_photo
from medtex_edge.runtime.frame import Frame


class PhotoSource:
    """Photographs, one frame each. One that cannot be read becomes a frame with its `error`; a single one raises."""

    live = False
    stream = False
    rate = 0.0

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        self.paths = tuple(paths)
        self.count: int | None = len(self.paths)
        self.notes: list[str] = []
        self._next = 0

    def read(self, frame: Frame) -> bool:
        """Read the next photograph. Raises `ImageError` if it is the only one and cannot be read."""
        if self._next >= len(self.paths):
            return False
        path = self.paths[self._next]
        frame.captured = time.monotonic()
        frame.source, frame.index, frame.error, frame.pixels = str(path), self._next, "", None
        self._next += 1
        try:
            frame.pixels = cv2.cvtColor(read_photo(path), cv2.COLOR_RGB2BGR)
        except ImageError as error:
            if len(self.paths) == 1:
                raise
            frame.error = error.message
        frame.read_ms = (time.monotonic() - frame.captured) * 1e3
        return True

    def skip(self) -> bool:
        """Leave out the next photograph."""
        self._next += 1
        return self._next <= len(self.paths)

    def reopen(self) -> None:
        """Begin again."""
        self._next = 0

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> PhotoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
