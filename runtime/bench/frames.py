"""The frames of a benchmark: the bundle's own examples, or a source's, as a camera of the wanted size would show them.

They are made before the clock starts. No two that follow each other are equal: the eye moves by a pixel or two and
every frame has noise of its own, as in front of a camera; equal ones would be refused, and refusing is fast.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence

import cv2
import numpy as np

from medtex_edge.bundle import Bundle
from medtex_edge.errors import DataError, NoFieldOfView, SettingsError
from medtex_edge.image.geometry import find_field_of_view
from medtex_edge.runtime.display.pixels import to_bgr
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.sources.open import open_source

Size = tuple[int, int]  # width, height in pixels

SIZE: Size = (1920, 1080)
SIDES = (64, 7680)  # pixels
MOST_STILLS = 5
_STAY = 12  # frames of one eye, or a few more, before the next one
_RATE = 25.0  # frames per second, as a camera would count them
_TURN = 25  # frames that pass uncounted while the camera is turned to the next eye
_RING_BYTES = 96 << 20
_FEWEST = 3  # frames of one eye; of two, each would be the one before the last
_DISC = 0.94  # of the shorter side
_TRAVEL = 0.002  # of the shorter side, how far the eye moves about its place: two pixels of 1080
_NOISE = 2.0  # grey levels, standard deviation


def parse_size(text: str) -> Size:
    """'1920x1080' -> (1920, 1080). Raises `SettingsError`."""
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise SettingsError(f"--size: expected WIDTHxHEIGHT, got {text!r}", hint="for example --size 1920x1080")
    size = int(width), int(height)
    if not SIDES[0] <= min(size) <= max(size) <= SIDES[1]:
        raise SettingsError(f"--size: expected sides of {SIDES[0]} to {SIDES[1]} pixels, got {text}")
    return size


def golden_stills(bundle: Bundle) -> list[Pixels]:
    """The bundle's golden photographs, (H, W, 3) uint8 BGR; what shows no fundus is left out. Raises `DataError`."""
    stills = []
    for image in bundle.golden.images:
        try:
            find_field_of_view(image)
        except NoFieldOfView:  # black, white and noise are among them, to hold a device to its answers
            continue
        stills.append(np.ascontiguousarray(image[..., ::-1]))
    if not stills:
        raise DataError(
            f"{bundle.path}: none of its {len(bundle.golden)} golden frames shows a fundus",
            hint="name photographs or a video: --source PATH",
        )
    return stills[:MOST_STILLS]


def source_stills(spec: str) -> tuple[list[Pixels], Size]:
    """The first pictures of a file, folder, video or stream in BGR, and the first one's size. Raises as the source."""
    source = open_source(spec)
    stills: list[Pixels] = []
    try:
        slot = Frame()
        while len(stills) < MOST_STILLS and source.read(slot):
            if slot.pixels is not None:
                bgr = slot.pixels if slot.layout == "bgr" else to_bgr(slot.pixels, slot.layout, None)
                stills.append(bgr.copy())
    finally:
        source.close()
    if not stills:
        raise DataError(f"{source.name}: no picture of it could be read", hint="name another source")
    height, width = stills[0].shape[:2]
    return stills, (width, height)


class Ring:
    """Frames in one layout, given in an order that never repeats the one before: a `FrameSource` that never ends."""

    live = False  # every frame counts
    stream = True
    rate = _RATE
    count: int | None = None

    def __init__(self, stills: Sequence[Pixels], size: Size, layout: str, *, whole: bool) -> None:
        """`whole`: stills are photographs with their border and fill the frame; else they are cropped to the disc."""
        if layout in ("nv12", "yuyv") and (size[0] % 2 or size[1] % 2):
            raise SettingsError(f"--size: expected even sides for {layout}, got {size[0]}x{size[1]}")
        self.name = f"{size[0]}x{size[1]} {layout}"
        self.size = size
        self.layout = layout
        self.notes: list[str] = []
        most = max(2 * _FEWEST, min(24, _RING_BYTES // (3 * size[0] * size[1])))
        stills = stills[: max(1, most // _FEWEST)]
        self._each = most // len(stills)
        self._stay = self._each * max(1, _STAY // self._each)
        rng = np.random.default_rng(0)
        self.frames = [
            to_layout(_shown(still, size, place / self._each, whole, rng), layout)
            for still in stills
            for place in range(self._each)
        ]
        self._next = 0

    def read(self, frame: Frame) -> bool:
        """Copy the next frame into the slot, as a driver would."""
        began = time.monotonic()
        pixels = self.frames[self._place(self._next)]
        if frame.buffer is None or frame.buffer.shape != pixels.shape:
            frame.buffer = np.empty_like(pixels)
        np.copyto(frame.buffer, pixels)
        frame.pixels, frame.layout, frame.source, frame.error = frame.buffer, self.layout, self.name, ""
        frame.index = self._next + _TURN * (self._next // self._stay)
        self._next += 1
        frame.captured = time.monotonic()
        frame.read_ms = (frame.captured - began) * 1e3
        return True

    def again(self) -> Ring:
        """The same frames once more, from the first one on, at no cost of memory."""
        other = copy.copy(self)
        other.reopen()
        return other

    def skip(self) -> bool:
        """Leave one out."""
        self._next += 1
        return True

    def reopen(self) -> None:
        """Begin again."""
        self._next = 0

    def close(self) -> None:
        """Nothing is held open."""

    def _place(self, index: int) -> int:
        eye = index // self._stay % (len(self.frames) // self._each)
        return eye * self._each + index % self._each


def to_layout(bgr: Pixels, layout: str) -> Pixels:
    """(H, W, 3) BGR -> one of `medtex_edge.image.geometry.LAYOUTS`; the chroma of YUYV and NV12 by OpenCV's I420."""
    if layout == "bgr":
        return bgr
    if layout == "grey":
        grey: Pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        return grey
    height, width = bgr.shape[:2]
    planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    if layout == "nv12":
        return np.concatenate([luma, chroma.transpose(1, 2, 0).reshape(height // 2, width)])
    both = chroma.transpose(1, 2, 0).reshape(height // 2, width).repeat(2, axis=0)
    return np.stack([luma, both], axis=2)


def _shown(still: Pixels, size: Size, turn: float, whole: bool, rng: np.random.Generator) -> Pixels:
    """The still in the middle of a black frame, moved along a small circle by `turn` (0..1), with noise."""
    width, height = size
    share = 1.0 if whole else _DISC
    scale = min(width / still.shape[1], height / still.shape[0]) * share
    angle, travel = 2 * math.pi * turn, _TRAVEL * min(size)
    x = (width - scale * still.shape[1]) / 2 + travel * math.cos(angle)
    y = (height - scale * still.shape[0]) / 2 + travel * math.sin(angle)
    wanted = (max(1, round(scale * still.shape[1])), max(1, round(scale * still.shape[0])))
    fitted = cv2.resize(still, wanted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    placed = cv2.warpAffine(fitted, np.array([[1, 0, round(x)], [0, 1, round(y)]], np.float32), size)
    # One plane of noise, rolled for each channel: drawing three would take seconds at 4K.
    noise = rng.normal(0, _NOISE, placed.shape[:2]).astype(np.float32)
    shifted = np.stack([noise, np.roll(noise, 7, axis=1), np.roll(noise, 7, axis=0)], axis=2)
    noisy: Pixels = np.clip(placed + shifted, 0, 255).astype(np.uint8)
    return noisy
