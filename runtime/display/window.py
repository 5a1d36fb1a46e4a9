"""A window. OpenCV's windows belong to the main thread, which draws what it shows; others only leave frames here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from medtex_edge.contract import Contract
from medtex_edge.runtime.display.annotations import draw_help, draw_notes, draw_paused
from medtex_edge.runtime.display.latest_frame import LatestFrame, Picture, scaled
from medtex_edge.runtime.display.overlay import STRONGEST_ALPHA, Overlay
from medtex_edge.runtime.display.snapshot import Snapshots
from medtex_edge.runtime.doctor.machine import display_missing
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading

TITLE = "medtex-edge"
START = (1280, 720)  # pixels; the window's first size, whatever the picture's
LARGEST = (1920, 1080)  # pixels; a larger picture is made smaller before it goes to the window
NOT_LIVE_S = 1.0  # a live picture that has stood for so long is marked
ALPHA_STEP = 0.1  # of the overlay's opacity at saliency 1, by + and -
_WAIT_MS = 15
_AGAIN_S = 0.2  # how often an age on a standing picture is written anew
_NOTE_S = 4.0
_PROBE_S = 10.0
# Qt complains about fonts that the wheel does not bring and that no window of ours needs.
os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
_QUIT = (ord("q"), ord("Q"), 27)


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
    """Shows the newest frame and its reading. `offer` is for the drawing thread, the rest for the main thread.

    Frame and reading stay apart until the moment they are shown: without overlay the frame is bare, a paused one can
    be drawn anew, and a frame that nobody saw was never drawn. Where the window breaks or is closed although the run
    has other outputs (`alone` is false), the run goes on; q and Esc always end it.
    """

    def __init__(
        self,
        contract: Contract,
        snapshots: Snapshots,
        *,
        live: bool,
        alone: bool = True,
        on_message: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._contract, self._snapshots = contract, snapshots
        self._live, self._alone, self._on_message = live, alone, on_message
        self._overlay = Overlay(contract)
        self._latest = LatestFrame()
        self._picture: Picture | None = None
        self._canvas: Pixels | None = None
        self._began = time.monotonic()
        self._due = 0.0  # time.monotonic() from which on the window has to be drawn again
        self._note, self._note_until = "", 0.0
        self._sized = self._paused = self._help = self._lost = False
        self._drawn = True
        self._alpha = STRONGEST_ALPHA
        # Without Qt's tool bar, which would take a third of a small window.
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)

    def offer(self, pixels: Pixels, reading: Reading, captured: float, frames_per_second: float | None) -> None:
        """Copy a frame and its reading; the one before it, if it was not shown yet, is forgotten."""
        if not self._lost:
            self._latest.offer(pixels, reading, captured, frames_per_second)

    def poll(self, why: str = "") -> bool:
        """Show what is new and look at the keys; False when the user wants to end."""
        if self._lost:
            time.sleep(_WAIT_MS / 1e3)
            return True
        try:
            self._refresh(why)
            key = cv2.waitKey(_WAIT_MS) & 0xFF
            open_ = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            self._lose(f"the window is lost ({error.err})")
            return True
        if key in _QUIT:
            return False
        self._press(chr(key))
        if not open_ and not self._alone:
            self._lose("the window was closed")
        return open_ or not self._alone

    def close(self) -> None:
        """Close the window."""
        if not self._lost:
            cv2.destroyAllWindows()

    def _lose(self, why: str) -> None:
        self._lost = True
        self._picture = self._canvas = None
        self._on_message(f"{why}; the run goes on without it (Ctrl-C ends it)")

    def _press(self, key: str) -> None:
        if key == " ":
            self._paused = not self._paused
        elif key in "oO":
            self._drawn = not self._drawn
        elif key in "+=":
            self._set_alpha(min(self._alpha + ALPHA_STEP, 0.95))
        elif key in "-_":
            self._set_alpha(max(self._alpha - ALPHA_STEP, 0.05))
        elif key == "0":
            self._set_alpha(STRONGEST_ALPHA)
        elif key in "hH?":
            self._help = not self._help
        elif key in "sS":
            alpha = self._alpha if self._drawn else None
            self._set_note("no frame yet" if self._picture is None else self._snapshots.save(self._picture, alpha))
        else:
            return
        self._due = 0.0

    def _set_alpha(self, alpha: float) -> None:
        """Another overlay, whose own scale stays what it is."""
        alpha = STRONGEST_ALPHA if abs(alpha - STRONGEST_ALPHA) < ALPHA_STEP / 2 else alpha
        if alpha != self._alpha:
            self._alpha, self._overlay = alpha, Overlay(self._contract, alpha)

    def _set_note(self, note: str) -> None:
        self._note, self._note_until = note, time.monotonic() + _NOTE_S

    def _refresh(self, why: str) -> None:
        """Draw where something changed: a new frame, a key, an age that has grown, a note that is over."""
        news = self._snapshots.news()
        if news:
            self._set_note(news)
            self._due = 0.0
        if not self._paused:
            taken = self._latest.take()
            if taken is not None:
                self._picture, self._due = taken, 0.0
        now = time.monotonic()
        if now < self._due or (self._picture is None and not self._live):
            return
        captured = self._began if self._picture is None else self._picture.captured
        age_s = now - captured
        not_live = self._live and age_s > NOT_LIVE_S
        canvas = self._draw(age_s, not_live, why)
        if not_live or self._paused:
            self._due = now + _AGAIN_S
        else:
            self._due = captured + NOT_LIVE_S if self._live else float("inf")
            if now < self._note_until:
                self._due = min(self._due, self._note_until)
        self._show(canvas)

    def _draw(self, age_s: float, not_live: bool, why: str) -> Pixels:
        canvas, scale = self._bare()
        picture = self._picture
        if picture is not None and self._drawn:
            # The age of what is seen now: the reading's own would stand still with a picture that stands.
            reading = replace(scaled(picture.reading, scale), age_ms=age_s * 1e3)
            self._overlay.draw(canvas, reading, picture.frames_per_second)
        notes = self._notes()
        if time.monotonic() < self._note_until:
            notes.append(self._note)
        if self._paused:
            draw_paused(canvas, age_s)
            notes += [why] if why else []
        elif not_live:
            # Whatever stalled, camera, inference or drawing: an old picture must not look like the present.
            self._overlay.draw_not_live(canvas, age_s, why or "the device is busy")
        draw_notes(canvas, notes)
        if self._help:
            draw_help(canvas)
        return canvas

    def _notes(self) -> list[str]:
        """What is not as it would be without a key pressed."""
        if self._drawn:
            usual = self._alpha == STRONGEST_ALPHA
            return [] if usual else [f"overlay at {self._alpha:.0%}, made for {STRONGEST_ALPHA:.0%} (0)"]
        reason = None if self._picture is None else self._picture.reading.reason
        return [f"overlay off (o){'' if reason is None else f'; ungradable: {reason.value}'}"]

    def _bare(self) -> tuple[Pixels, float]:
        """The frame alone in the window's own buffer, and how large it is there; black where there is none yet."""
        if self._picture is None:
            return np.zeros((480, 640, 3), np.uint8), 1.0
        pixels = self._picture.pixels
        scale = min(1.0, LARGEST[0] / pixels.shape[1], LARGEST[1] / pixels.shape[0])
        shape = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)), 3)
        if self._canvas is None or self._canvas.shape != shape:
            self._canvas = np.empty(shape, np.uint8)
        if shape == pixels.shape:
            np.copyto(self._canvas, pixels)
        else:
            cv2.resize(pixels, shape[1::-1], dst=self._canvas, interpolation=cv2.INTER_AREA)
        return self._canvas, scale

    def _show(self, picture: Pixels) -> None:
        if not self._sized and self._picture is not None:
            self._sized = True
            height, width = picture.shape[:2]
            scale = min(START[0] / width, START[1] / height)
            cv2.resizeWindow(TITLE, round(width * scale), round(height * scale))
        cv2.imshow(TITLE, picture)
