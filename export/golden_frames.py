"""The golden frames: drawn, never photographed, so that no patient is in a file that is copied to devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medtex_edge.image.geometry import prepare
from medtex_edge.train.synthetic.dataset import GRADES, render

_SEED = 20080259  # apart from the seeds of any dataset, which count from 0


def golden_frames(size: int) -> npt.NDArray[np.uint8]:
    """(8, size, size, 3) uint8 RGB: a drawn fundus of each grade, cut as a device cuts; black, white and noise."""
    scenes = [prepare(render((_SEED, grade), grade=grade).image, size, size)[0] for grade in range(GRADES)]
    # What a device meets when a cable is loose or a lamp too bright, and unlike any training photograph.
    black, white = np.zeros((size, size, 3), np.uint8), np.full((size, size, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return np.stack([*scenes, black, white, noise])
