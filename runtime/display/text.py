"""Text on a picture. OpenCV 5 has an outline font for every alphabet; OpenCV 4 has the Hershey strokes, ASCII only."""

from __future__ import annotations

import threading
import unicodedata
from functools import lru_cache
from typing import Any

import cv2

from medtex_edge.runtime.frame import Pixels

Colour = tuple[int, int, int]  # blue, green, red
_BOLD, _REGULAR = 700, 500  # weights of the variable font
_HERSHEY_HEIGHT = 22.0  # pixels of a capital letter of FONT_HERSHEY_DUPLEX at scale 1
_CAPITAL = 0.7  # of an outline font's size
_fonts = threading.local()


def put(image: Pixels, text: str, x: int, y: int, size: int, colour: Colour, *, bold: bool = False) -> None:
    """Draw one line into (H, W, 3) uint8 BGR; (x, y) is the left end of its baseline, `size` in pixels."""
    font = _font()
    if font is not None:
        cv2.putText(image, text, (x, y), colour, font, size, _BOLD if bold else _REGULAR)
        return
    scale, thickness = _hershey(size, bold)
    cv2.putText(image, plain(text), (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, colour, thickness, cv2.LINE_AA)


@lru_cache(maxsize=512)
def width(text: str, size: int, *, bold: bool = False) -> int:
    """How wide `put` will draw the line, in pixels."""
    font = _font()
    if font is not None:
        return int(cv2.getTextSize((0, 0), text, (0, 0), font, size, _BOLD if bold else _REGULAR)[2])
    scale, thickness = _hershey(size, bold)
    return int(cv2.getTextSize(plain(text), cv2.FONT_HERSHEY_DUPLEX, scale, thickness)[0][0])


def fit(text: str, size: int, space: int, *, bold: bool = False) -> str:
    """The line, cut with an ellipsis where it is wider than `space` pixels."""
    if width(text, size, bold=bold) <= space:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = text[:length].rstrip() + "..."
        if width(cut, size, bold=bold) <= space:
            return cut
    return ""


def plain(text: str) -> str:
    """The text in ASCII, as Hershey can draw it: accents dropped, every other character left out."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode().replace("?", "")


def _font() -> Any:
    """OpenCV 5's built-in outline font, or None. One per thread: drawing sets the weight in the font itself."""
    if not hasattr(_fonts, "face"):
        _fonts.face = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
    return _fonts.face


def _hershey(size: int, bold: bool) -> tuple[float, int]:
    scale = _CAPITAL * size / _HERSHEY_HEIGHT
    return scale, max(1, round(scale * (2 if bold else 1)))
