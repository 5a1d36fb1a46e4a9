"""Saves the frame that a user looks at: as the camera gave it, as it was seen, and its reading."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2

from medtex_edge.contract import Contract
from medtex_edge.errors import StorageError
from medtex_edge.files import atomic_write, write_json
from medtex_edge.runtime.display.latest_frame import Picture
from medtex_edge.runtime.display.overlay import STRONGEST_ALPHA, Overlay
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading


class Snapshots:
    """Writes in a thread of its own, so that a slow disk holds up neither window nor run. One at a time."""

    def __init__(self, folder: Path, contract: Contract, sha256: str, on_message: Callable[[str], None]) -> None:
        self.folder = folder
        self._contract, self._sha256, self._on_message = contract, sha256, on_message
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="medtex-edge-save")
        self._writing: Future[str] | None = None
        self.requested = False  # the user saved something, or tried to
        self.written = 0
        self.lost = 0
        self.error: StorageError | None = None

    def save(self, picture: Picture, strongest_alpha: float | None) -> str:
        """Begin to save a picture, drawn with that overlay (None: without); returns what to tell the user."""
        if self._writing is not None:
            return "still saving the one before"
        self.requested = True
        self._writing = self._pool.submit(
            self._write, picture.pixels.copy(), picture.reading, picture.frames_per_second, strongest_alpha
        )
        return f"saving to {self.folder}"

    def news(self) -> str:
        """Once, when a saving has ended: where the frame is, or why it is not; else ''."""
        if self._writing is None or not self._writing.done():
            return ""
        writing, self._writing = self._writing, None
        try:
            line = f"saved {writing.result()}"
            self.written += 1
        except StorageError as error:
            self.error = error
            self.lost += 1
            line = f"not saved: {error.message}"
        self._on_message(line)
        return line

    def close(self) -> None:
        """Wait for what is being written."""
        self._pool.shutdown()
        self.news()

    def to_json(self) -> dict[str, Any]:
        """What came of it, as the sinks of a summary say it."""
        error = self.error.message if self.error else None
        return {"name": f"saved frames {self.folder}", "written": self.written, "lost": self.lost, "error": error}

    def _write(
        self, pixels: Pixels, reading: Reading, frames_per_second: float | None, strongest_alpha: float | None
    ) -> str:
        """NAME.png as it came, NAME-overlay.png, NAME.json; each whole or not at all. Raises `StorageError`."""
        base = self.folder / _name(reading)
        _write_png(base.with_name(f"{base.name}.png"), pixels)
        if strongest_alpha is not None:
            Overlay(self._contract, strongest_alpha).draw(pixels, reading, frames_per_second)
            # The scale is fixed unless a user changed it, and then every copy has to say so.
            share = "" if strongest_alpha == STRONGEST_ALPHA else f"-at-{round(100 * strongest_alpha)}-percent"
            _write_png(base.with_name(f"{base.name}-overlay{share}.png"), pixels)
        write_json(base.with_name(f"{base.name}.json"), reading.to_json(self._contract, self._sha256))
        return str(base.with_name(f"{base.name}.png"))


def _name(reading: Reading) -> str:
    """From source and time, so that no frame replaces another."""
    source = Path(reading.source).stem if "://" not in reading.source else reading.source
    source = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-")[:60] or "frame"
    return f"{source}-{reading.captured:%Y%m%dT%H%M%S}{reading.captured.microsecond // 1000:03d}Z-{reading.frame}"


def _write_png(path: Path, pixels: Pixels) -> None:
    _, data = cv2.imencode(".png", pixels)
    with atomic_write(path) as file:
        file.write(data.tobytes())
