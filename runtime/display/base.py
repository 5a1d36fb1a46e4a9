"""The protocols of a display, to which the pipeline offers its frames."""

from __future__ import annotations

from typing import Protocol

from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading


class Viewer(Protocol):
    """A display of frames; `web.server.Page` is one."""

    def offer(self, pixels: Pixels, reading: Reading, captured: float, frames_per_second: float | None) -> None:
        """Copy a frame, (H, W, 3) uint8 BGR with nothing drawn into it, and its reading. Never waits.

        Called by the display thread. `captured` is in seconds of `time.monotonic()`; `frames_per_second` is None for
        photographs.
        """


class Screen(Viewer, Protocol):
    """A display that the main thread drives; `display.window.Window` is one."""

    def poll(self, why: str = "") -> bool:
        """Show the latest frame; False when the user ends the run. `why`: the reason why no frames come, or ''."""
