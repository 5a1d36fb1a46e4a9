"""What every sink has in common: the protocol, and how an unfinished file removes itself.

A file gets its name when it is whole: a run that ends well, or by Ctrl-C, renames it into place; one that breaks (a
full disk) leaves none.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Protocol

from medtex_edge.errors import StorageError
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading


class Sink(Protocol):
    """One place to write to. Used by one thread."""

    name: str

    def write(self, reading: Reading, pixels: Pixels | None) -> None:
        """Take one reading, with its drawn picture where there is one. Raises `StorageError`."""

    def close(self) -> None:
        """Finish: what was written gets its name. Raises `StorageError`."""

    def abandon(self) -> None:
        """Leave nothing behind."""


class _Abandoned(Exception):
    """Thrown into an atomic file so that it removes itself."""


def discard(stack: ExitStack) -> None:
    """Close an atomic file of `medtex_edge.files` so that it removes itself."""
    # Closing flushes once more, and fails once more where the disk is full.
    with suppress(_Abandoned, StorageError, OSError):
        stack.__exit__(_Abandoned, _Abandoned(), None)
