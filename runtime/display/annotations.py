"""Annotations of the window over its picture: paused, notes, help. Never in a verdict's colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from medtex_edge.runtime.display import text
from medtex_edge.runtime.display.overlay import BLACK, WARNING, WHITE
from medtex_edge.runtime.frame import Pixels

HELP = (
    ("space", "pause, go on"),
    ("o", "overlay on, off"),
    ("+  -", "overlay stronger, weaker"),
    ("0", "overlay at its default strength"),
    ("s", "save this frame"),
    ("h", "this help"),
    ("q  Esc", "end"),
)


def draw_paused(pixels: Pixels, age_s: float) -> None:
    """Draw a border and a plate, top right, into (H, W, 3) uint8 BGR: paused, and the picture's present age."""
    unit, (height, width) = _unit(pixels), pixels.shape[:2]
    cv2.rectangle(pixels, (0, 0, width, height), WARNING, max(2, unit // 3))
    size, pad = round(1.35 * unit), unit // 2
    line = f"PAUSED  {_age(age_s)} old"
    if text.width(line, size, bold=True) > width - 2 * pad:
        line, size = "PAUSED", max(8, min(size, height // 3))
    line = text.fit(line, size, width - 2 * pad, bold=True)
    left = width - text.width(line, size, bold=True) - 2 * pad
    cv2.rectangle(pixels, (left, 0, width - left, size + 2 * pad), WARNING, cv2.FILLED)
    text.put(pixels, line, left + pad, size + pad // 2, size, BLACK, bold=True)


def draw_notes(pixels: Pixels, notes: Sequence[str]) -> None:
    """Draw lines on a dark plate into (H, W, 3) uint8 BGR, above the footer of a reading."""
    if not notes:
        return
    unit, (height, width) = _unit(pixels), pixels.shape[:2]
    pad, step = unit // 2, round(1.4 * unit)
    lines = [text.fit(note, unit, width - 4 * pad) for note in notes]
    wide = max(text.width(line, unit) for line in lines) + 2 * pad
    bottom = max(0, height - 3 * unit)
    top = max(0, bottom - step * len(lines) - pad)
    cv2.rectangle(pixels, (pad, top, wide, bottom - top), BLACK, cv2.FILLED)
    for number, line in enumerate(lines):
        text.put(pixels, line, 2 * pad, top + step * (number + 1) - pad // 2, unit, WHITE)


def draw_help(pixels: Pixels) -> None:
    """Draw the list of keys into the middle of (H, W, 3) uint8 BGR."""
    unit, (height, width) = _unit(pixels), pixels.shape[:2]
    pad, step = unit, round(1.5 * unit)
    keys = max(text.width(key, unit, bold=True) for key, _ in HELP) + pad
    wide = min(width, keys + max(text.width(what, unit) for _, what in HELP) + 2 * pad)
    tall = step * len(HELP) + 2 * pad
    left, top = max(0, (width - wide) // 2), max(0, (height - tall) // 2)
    plate = pixels[top : top + tall, left : left + wide]
    cv2.convertScaleAbs(plate, dst=plate, alpha=0.12)
    for number, (key, what) in enumerate(HELP):
        y = top + pad + step * number + unit
        text.put(pixels, key, left + pad, y, unit, WARNING, bold=True)
        text.put(pixels, text.fit(what, unit, wide - keys - 2 * pad), left + pad + keys, y, unit, WHITE)


def _unit(pixels: Pixels) -> int:
    """The size of a line in pixels, equal to that of the overlay."""
    return int(np.clip(min(pixels.shape[0], pixels.shape[1] * 3 // 4) / 28, 10, 96))


def _age(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
