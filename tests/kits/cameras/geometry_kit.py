"""Frames for the tests of the image geometry: drawn discs, random frames, and the real photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from medtex_edge.image.geometry import native_available

U8 = npt.NDArray[np.uint8]
DATA = Path(__file__).parents[3] / "../shared/data"
PHOTOGRAPHS = sorted((DATA / "idrid/images").glob("*.jpg"))
LESIONS = sorted((DATA / "idrid_lesions/images").glob("*.png"))

needs_native = pytest.mark.skipif(not native_available(), reason="the native module is not built here")
needs_photographs = pytest.mark.skipif(not PHOTOGRAPHS, reason="the photographs of ../shared/data are not here")


def fundus(
    height: int = 320, width: int = 480, x: float = 225, y: float = 160, radius: float = 190, *,
    border: tuple[int, int, int] = (4, 4, 4), noise: float = 2, gain: float = 1, seed: int = 0,
) -> U8:  # fmt: skip
    """A textured disc, RGB, centred on (x, y) in continuous pixel coordinates."""
    random = np.random.default_rng(seed)
    texture = cv2.resize(random.integers(90, 200, (12, 16, 3), dtype=np.uint8), (width, height)) * (1.0, 0.6, 0.3)
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)[..., None]
    picture = inside * texture * gain + (1 - inside) * border + random.normal(0, noise, (height, width, 3))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


@st.composite
def frames(draw: st.DrawFn) -> U8:
    """Discs, patches and noise of any size, with any strides."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    kind = draw(st.sampled_from(["disc", "discs", "patches", "noise"]))
    if kind == "noise":
        image = random.integers(0, draw(st.integers(2, 256)), (height, width, 3), dtype=np.uint8)
    elif kind == "patches":
        patches = random.integers(0, 256, (*random.integers(1, 20, 2), 3), dtype=np.uint8)
        image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        image = np.clip(random.normal(random.integers(0, 60, 3), random.uniform(0, 8), (height, width, 3)), 0, 255)
        image = image.astype(np.uint8)
        for _ in range(1 if kind == "disc" else 3):
            centre = int(random.integers(0, width)), int(random.integers(0, height))
            colour = [int(value) for value in random.integers(20, 256, 3)]
            cv2.circle(image, centre, int(random.integers(1, max(height, width) + 1)), colour, -1)
    y, x, c = (draw(st.sampled_from(steps)) for steps in ((1, 2, -1, -3), (1, 3, -1, -2), (1, -1)))
    return image[::y, ::x, ::c]


def noise(low: int, high: int) -> U8:
    return np.random.default_rng(0).integers(low, high, (240, 320, 3), dtype=np.uint8)
