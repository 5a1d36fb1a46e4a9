"""Drawing for synthetic eyes: unit coordinates, antialiased shapes, smooth noise.

The unit is the diameter of the field of view; the origin is its centre, x points to the right, y down. Shapes are drawn
at `FINE` times the resolution and averaged, so that a line of half a pixel is half as dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]  # (N, 2): x, y
Drawing = npt.NDArray[np.uint8]  # (FINE * S, FINE * S)

FINE = 3
_SHIFT = 4  # OpenCV's fixed-point bits of a coordinate


@dataclass(frozen=True)
class Canvas:
    """A square of `size` pixels with a field of view of `diameter` pixels."""

    size: int
    diameter: float

    def fine(self) -> Drawing:
        """An empty drawing, (FINE * S, FINE * S) uint8."""
        return np.zeros((FINE * self.size, FINE * self.size), np.uint8)

    def coarse(self, fine: Drawing) -> Floats:
        """Average a drawing (FINE * S, FINE * S) uint8 -> (S, S) float32 in 0..1."""
        small = cv2.resize(fine, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32) / np.float32(255)

    def fixed(self, points: Points) -> npt.NDArray[np.int32]:
        """Unit coordinates (N, 2) -> OpenCV's fixed-point pixels of a drawing, (N, 1, 2) int32."""
        pixels = (points * self.diameter + self.size / 2) * FINE - 0.5
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)

    def line(self, fine: Drawing, points: Points, width: float, value: int = 255) -> None:
        """Draw an open line of `width` units through `points` (N, 2) into `fine`."""
        thickness = max(1, round(width * self.diameter * FINE))
        cv2.polylines(fine, [self.fixed(points)], False, value, thickness, cv2.LINE_AA, _SHIFT)

    def fill(self, fine: Drawing, points: Points, value: int = 255) -> None:
        """Draw a filled polygon with the corners `points` (N, 2) into `fine`."""
        cv2.fillPoly(fine, [self.fixed(points)], value, cv2.LINE_AA, _SHIFT)

    def grid(self) -> tuple[Floats, Floats]:
        """Unit coordinates of the pixel centres: x (1, S) and y (S, 1), float32."""
        line = ((np.arange(self.size, dtype=np.float32) + np.float32(0.5)) - self.size / 2) / self.diameter
        line = line.astype(np.float32)
        return line[None, :], line[:, None]

    def blur(self, image: Floats, sigma: float) -> Floats:
        """Blur (S, S) or (S, S, C) float32 by a Gaussian of `sigma` units; below a fifth of a pixel, not at all."""
        pixels = sigma * self.diameter
        if pixels < 0.2:
            return image
        return np.asarray(cv2.GaussianBlur(image, (0, 0), pixels), np.float32)

    def noise(self, random: np.random.Generator, cells: int) -> Floats:
        """Smooth noise, (S, S) float32, with a standard deviation of about 1 and `cells` bumps per side."""
        small = random.standard_normal((cells + 1, cells + 1)).astype(np.float32)
        return np.asarray(cv2.resize(small, (self.size, self.size), interpolation=cv2.INTER_CUBIC), np.float32)


def bump(x: Floats, y: Floats, centre: Points, sigma: float, aspect: float = 1.0) -> Floats:
    """A Gaussian bump of height 1, (S, S) float32; `aspect` > 1 makes it taller than wide."""
    dx, dy = (x - np.float32(centre[0])) / sigma, (y - np.float32(centre[1])) / (sigma * aspect)
    value: Floats = np.exp(-0.5 * (dx * dx + dy * dy)).astype(np.float32)
    return value


def outline(
    random: np.random.Generator, centre: Points, radius: float, *, ragged: float, corners: int,
    stretch: float = 1.0, angle: float = 0.0,
) -> Points:  # fmt: skip
    """A closed, ragged outline around `centre`, (corners, 2); `stretch` lengthens it along `angle` and narrows it."""
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radii = radius * np.clip(1 + ragged * random.standard_normal(corners), 0.4, 1.8)
    shape = np.stack([np.cos(turns) * stretch, np.sin(turns) / stretch], axis=1) * radii[:, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    turned: Points = centre + shape @ np.array([[cosine, sine], [-sine, cosine]])
    return turned
