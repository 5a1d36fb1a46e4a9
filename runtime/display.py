"""A window. OpenCV's windows belong to the main thread; the drawing thread only leaves its newest picture here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import cv2
import numpy as np

from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.machine import display_missing
from medtex_edge.runtime.overlay import Overlay

TITLE = "medtex-edge"
START = (1280, 720)  # pixels; the window's first size, whatever the picture's
LARGEST = (1920, 1080)  # pixels; a larger picture is made smaller before it goes to the window
NOT_LIVE_S = 1.0  # a live picture that has stood for so long is marked
_WAIT_MS = 15
_PROBE_S = 10.0
# Qt complains about fonts that the wheel does not bring and that no window of ours needs.
os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
_QUIT = (ord("q"), 27)


class Probe:
    """Finds out whether a window can be opened, in a process of its own: Qt ends the process where it cannot."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._why = display_missing()
        if not self._why:
            code = f"import cv2; cv2.namedWindow({TITLE!r}); cv2.waitKey(1); cv2.destroyAllWindows()"
            self._child = subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def why_not(self) -> str:
        """Wait for the answer: '' where a window can be opened, else the reason."""
        if self._child is None:
            return self._why
        try:
            code = self._child.wait(_PROBE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            return "the display does not answer"
        finally:
            self._why = ""
        return "" if code == 0 else "OpenCV cannot open a window here (no access to the display, or a build without)"


class Window:
    """Shows the newest picture. `offer` is for the drawing thread, the rest for the main thread."""

    def __init__(self, overlay: Overlay, *, live: bool) -> None:
        self._overlay = overlay
        self._live = live
        self._lock = threading.Lock()
        self._back: Pixels | None = None
        self._front: Pixels | None = None
        self._fresh = False
        self._captured = time.monotonic()
        self._marked = 0.0
        self._sized = False
        # Without Qt's tool bar, which would take a third of a small window.
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)

    def offer(self, pixels: Pixels, captured: float) -> None:
        """Copy a drawn picture; the one before it, if it was not shown yet, is forgotten."""
        scale = min(1.0, LARGEST[0] / pixels.shape[1], LARGEST[1] / pixels.shape[0])
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        with self._lock:
            if self._back is None or self._back.shape[1::-1] != size:
                self._back = np.empty((size[1], size[0], 3), np.uint8)
            cv2.resize(pixels, size, dst=self._back, interpolation=cv2.INTER_AREA)
            self._captured = captured
            self._fresh = True

    def poll(self, why: str = "") -> bool:
        """Show what is new and look at the keys; False when the user closed the window or pressed q."""
        with self._lock:
            if self._fresh:
                self._front, self._back = self._back, self._front
            fresh, self._fresh = self._fresh, False
            age_s = time.monotonic() - self._captured
        if self._front is not None and fresh:
            self._show(self._front)
            self._marked = 0.0
        elif self._live and age_s > NOT_LIVE_S and age_s - self._marked > 0.2:
            # Whatever stalled, camera, inference or drawing: an old picture must not look like the present.
            picture = np.zeros((480, 640, 3), np.uint8) if self._front is None else self._front.copy()
            self._overlay.draw_not_live(picture, age_s, why or "the device is busy")
            self._show(picture)
            self._marked = age_s
        key = cv2.waitKey(_WAIT_MS) & 0xFF
        return key not in _QUIT and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def _show(self, picture: Pixels) -> None:
        if not self._sized:
            self._sized = True
            height, width = picture.shape[:2]
            scale = min(START[0] / width, START[1] / height)
            cv2.resizeWindow(TITLE, round(width * scale), round(height * scale))
        cv2.imshow(TITLE, picture)

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
