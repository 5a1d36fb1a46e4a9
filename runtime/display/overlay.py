"""Draw a reading into its frame: saliency on a fixed scale, the verdict in colour and text, and warnings.

The same saliency always has the same colour and the same opacity: maps are never stretched to their own maximum.
So a live picture does not flicker and a blank map appears blank.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract
from medtex_edge.runtime.display import text
from medtex_edge.runtime.display.pixels import draw_saliency
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading, Verdict

# Blue, green, red. They differ in lightness and along blue-orange, which every colour vision can distinguish.
WHITE, GREY, BLACK = (255, 255, 255), (190, 190, 190), (0, 0, 0)
WARNING = (0, 215, 255)
VERDICT_COLOUR = {
    Verdict.REFERABLE: (0, 70, 213),
    Verdict.NOT_REFERABLE: (150, 90, 0),
    Verdict.UNGRADABLE: WARNING,
}
FAINTEST = 0.1  # saliency below it is not drawn
STRONGEST_ALPHA = 0.55  # at saliency 1; the retina stays visible under it
# Saliency -> colour. The retina is orange, exudates are yellow and haemorrhages dark red: blue to turquoise is the
# one range that none of them has.
_STOPS = ((0.0, (255, 60, 40)), (0.35, (255, 150, 0)), (0.65, (255, 235, 0)), (1.0, (150, 255, 60)))


def scale(strongest_alpha: float = STRONGEST_ALPHA) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The fixed scale at 256 saliencies: colour (256, 3) uint8 BGR and alpha (256,) float32.

    Linear, the same in every frame: what is twice as visible to the student is drawn twice as strongly. Another
    `strongest_alpha` (0..1) is for a viewer's own choice; the picture then has to state it.
    """
    level = np.linspace(0, 1, 256)
    positions = [position for position, _ in _STOPS]
    channels = zip(*(colour for _, colour in _STOPS), strict=True)
    colour = np.stack([np.interp(level, positions, channel) for channel in channels], axis=1)
    alpha = np.clip((level - FAINTEST) / (1 - FAINTEST), 0, 1) * strongest_alpha
    return np.round(colour).astype(np.uint8), alpha.astype(np.float32)


def blend_table(strongest_alpha: float = STRONGEST_ALPHA) -> npt.NDArray[np.uint8]:
    """The scale as `pixels.draw_saliency` wants it, (256, 4): 128 (1 - alpha), and alpha times the colour."""
    colour, alpha = scale(strongest_alpha)
    kept = np.round(128 * (1 - alpha))
    brightest = (255 * kept.astype(int) + 64) >> 7
    # From the rounded share, so that a pixel of the colour itself stays that colour, and no white one overflows.
    added = np.minimum(np.round((128 - kept)[:, None] / 128 * colour), 255 - brightest[:, None])
    return np.ascontiguousarray(np.column_stack([kept, added]), np.uint8)


class Overlay:
    """Draws the readings of one run. Holds its buffers, so one per thread."""

    def __init__(self, contract: Contract, strongest_alpha: float = STRONGEST_ALPHA) -> None:
        self._contract = contract
        self._table = blend_table(strongest_alpha)
        self._legend, _ = scale()
        self._hatch: Pixels | None = None

    def draw(self, pixels: Pixels, reading: Reading, frames_per_second: float | None = None) -> None:
        """Draw into (H, W, 3) uint8 BGR. `frames_per_second` is shown for streams; None for photographs."""
        if reading.saliency is not None and reading.field_of_view is not None:
            draw_saliency(pixels, reading.saliency, reading.field_of_view, self._table)
        unit = _unit(pixels)
        if not _has_room(pixels, unit):
            cv2.rectangle(pixels, (0, 0, *pixels.shape[1::-1]), VERDICT_COLOUR[reading.verdict], 2)
            return
        if reading.verdict is Verdict.UNGRADABLE:
            self._ungradable(pixels, reading, unit)
        else:
            self._graded(pixels, reading, unit)
            self._legend_bar(pixels, unit)
        self._footer(pixels, reading, frames_per_second, unit)

    def warm(self) -> None:
        """Load the font, which takes tens of milliseconds, before the first frame waits for it."""
        text.put(np.zeros((32, 32, 3), np.uint8), "0", 0, 30, 16, WHITE, bold=True)

    def draw_not_live(self, pixels: Pixels, seconds: float, why: str) -> None:
        """Mark the last picture, (H, W, 3) uint8 BGR, as not live any more: `seconds` old, and the reason."""
        unit = _unit(pixels)
        cv2.convertScaleAbs(pixels, dst=pixels, alpha=0.3)
        if not _has_room(pixels, unit):
            return
        self._frame(pixels, unit)
        _band(pixels, unit, "NOT LIVE", f"no new picture for {seconds:.1f} s: {why}")

    def _graded(self, pixels: Pixels, reading: Reading, unit: int) -> None:
        """Top left: the verdict on its colour, the referable probability on a gauge, the class."""
        title, colour = reading.verdict.value.upper(), VERDICT_COLOUR[reading.verdict]
        threshold = self._contract.operating_point.threshold
        referable = reading.referable_probability or 0.0
        probability = 0.0 if reading.probabilities is None else float(reading.probabilities.max())
        pad, big, small = unit // 2, round(1.35 * unit), unit
        label = f"{reading.label}  {probability:.2f}"
        inner = max(text.width(title, big, bold=True), 9 * unit, min(text.width(label, small), 16 * unit))
        inner = min(inner, pixels.shape[1] - 2 * pad)
        bar = (0, 0, inner + 2 * pad, big + pad)
        cv2.rectangle(pixels, bar, colour, cv2.FILLED)
        text.put(pixels, text.fit(title, big, inner, bold=True), pad, big, big, WHITE, bold=True)
        rest = pixels[bar[3] : bar[3] + 3 * unit + 2 * pad, : bar[2]]
        cv2.convertScaleAbs(rest, dst=rest, alpha=0.25)
        y = bar[3] + pad + round(0.75 * unit)
        text.put(pixels, text.fit(label, small, inner), pad, y, small, WHITE)
        y += round(1.15 * unit)
        text.put(pixels, f"P(refer) {referable:.2f}", pad, y, round(0.85 * unit), GREY)
        y += unit // 2
        _gauge(pixels, (pad, y, inner, max(4, unit // 2)), referable, threshold, colour)
        cv2.rectangle(pixels, (0, 0, pixels.shape[1], pixels.shape[0]), colour, max(1, unit // 5))

    def _ungradable(self, pixels: Pixels, reading: Reading, unit: int) -> None:
        self._frame(pixels, unit)
        reason = reading.reason.value if reading.reason else ""
        _band(pixels, unit, "UNGRADABLE", f"{reason}: {reading.detail}" if reading.detail else reason)

    def _footer(self, pixels: Pixels, reading: Reading, frames_per_second: float | None, unit: int) -> None:
        """Bottom left: how old the picture is and how fast they come, or the photograph's name."""
        size, pad = round(0.85 * unit), unit // 2
        if frames_per_second is None:
            line = reading.source.rpartition("/")[2]
        else:
            line = f"age {reading.age_ms:.0f} ms   {frames_per_second:.0f} frames/s"
        line = text.fit(line, size, pixels.shape[1] // 2)
        edge = unit if reading.verdict is Verdict.UNGRADABLE else unit // 5
        bottom, right = pixels.shape[0] - edge, edge + 2 * pad + text.width(line, size)
        plate = pixels[bottom - size - pad : bottom, edge:right]
        cv2.convertScaleAbs(plate, dst=plate, alpha=0.25)
        text.put(pixels, line, edge + pad, bottom - pad + unit // 8, size, WHITE)

    def _legend_bar(self, pixels: Pixels, unit: int) -> None:
        """Bottom right: the fixed scale of the saliency, from 0 to 1."""
        size, length, thick, pad = round(0.75 * unit), 5 * unit, max(4, unit // 2), unit // 2
        height, width = pixels.shape[:2]
        if width < 26 * unit:
            length = 3 * unit
        side = text.width("0", size) + pad // 2
        x, y = width - unit // 5 - pad - side - length, height - unit // 5 - pad - thick
        top = y - size - pad
        plate = pixels[top : height - unit // 5, x - side - pad : width - unit // 5]
        cv2.convertScaleAbs(plate, dst=plate, alpha=0.25)
        text.put(pixels, "saliency", x, y - pad // 2, size, GREY)
        text.put(pixels, "0", x - side, y + thick, size, GREY)
        text.put(pixels, "1", x + length + pad // 2, y + thick, size, GREY)
        pixels[y : y + thick, x : x + length] = self._legend[np.linspace(0, 255, length).astype(int)]

    def _frame(self, pixels: Pixels, unit: int) -> None:
        """A border of warning stripes."""
        height, width = pixels.shape[:2]
        if self._hatch is None or self._hatch.shape[:2] != (height, width):
            y, x = np.ogrid[:height, :width]
            stripes = ((x + y) // (2 * unit)) % 2 == 0
            self._hatch = np.where(stripes[..., None], np.array(WARNING, np.uint8), np.array(BLACK, np.uint8))
        for part in (np.s_[:unit], np.s_[-unit:], np.s_[:, :unit], np.s_[:, -unit:]):
            pixels[part] = self._hatch[part]


def _unit(pixels: Pixels) -> int:
    """The size of a line of text in pixels: a twenty-eighth of the picture, legible on small ones too."""
    return int(np.clip(min(pixels.shape[0], pixels.shape[1] * 3 // 4) / 28, 10, 96))


def _has_room(pixels: Pixels, unit: int) -> bool:
    """Whether text fits at all; a picture the size of a thumbnail gets a border in the verdict's colour alone."""
    return bool(pixels.shape[0] >= 9 * unit and pixels.shape[1] >= 14 * unit)


def _band(pixels: Pixels, unit: int, title: str, line: str) -> None:
    """Across the middle: a title as large as the picture allows, and a line that explains it."""
    height, width = pixels.shape[:2]
    space = width - 4 * unit
    big = 4 * unit
    while big > unit and text.width(title, big, bold=True) > space:
        big -= max(1, unit // 4)
    middle = height // 2
    band = pixels[max(0, middle - big) : middle + 2 * unit, unit : max(unit, width - unit)]
    cv2.convertScaleAbs(band, dst=band, alpha=0.15)
    x = (width - text.width(title, big, bold=True)) // 2
    text.put(pixels, title, x, middle, big, WARNING, bold=True)
    line = text.fit(line, unit, space)
    text.put(pixels, line, (width - text.width(line, unit)) // 2, middle + round(1.3 * unit), unit, WHITE)


def _gauge(pixels: Pixels, box: tuple[int, int, int, int], value: float, threshold: float, colour: text.Colour) -> None:
    """A bar of the probability from 0 to 1, with a mark at the threshold."""
    x, y, width, height = box
    cv2.rectangle(pixels, (x, y, width, height), (90, 90, 90), cv2.FILLED)
    cv2.rectangle(pixels, (x, y, max(1, round(width * min(value, 1.0))), height), colour, cv2.FILLED)
    mark = x + round(width * threshold)
    cv2.line(pixels, (mark, y - height // 2), (mark, y + height + height // 2), WHITE, max(1, height // 4))
