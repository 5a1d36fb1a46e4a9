"""ROAD: what goes is imputed from its surroundings, so that the shape of the hole carries no information.

Rong, Leemann, Borisov, Kasneci & Kasneci, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
ICML 2022. The same linear system as its authors' code, which pytorch-grad-cam carries, solved a hundred times faster
by assembling it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from medtex_edge.evaluate.measures.faithfulness import (
    BATCH,
    Bools,
    Floats,
    Images,
    Scores,
    TeacherLabels,
    order,
    to_stride,
)

Whole = Callable[[Images], npt.NDArray[np.floating[Any]]]  # images (N, S, S, 3) -> probabilities (N, C)

FRACTIONS = (0.1, 0.3, 0.5)  # of the area; the cost grows with the area, and lesions take less than a tenth
NOISE = 2.5  # grey levels of 255: the authors' 0.01
# The share of each neighbour (down, right) in an imputed pixel.
NEIGHBOURS = {(y, x): (1 / 6 if 0 in (y, x) else 1 / 12) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)}


def road(
    whole: Whole,
    images: Images,
    maps: Floats,
    labels: TeacherLabels,
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> Scores:
    """(N,) in -0.5..0.5, higher is better: half the gap between the probabilities of the teacher's class when the
    least and when the most salient part is imputed, averaged over `fractions` (ROADCombined of pytorch-grad-cam).

    images (N, S, S, 3), maps (N, h, w) in any range. `whole` predicts from imputed pictures.
    """
    ranks = order(to_stride(maps, images.shape[1]))
    rng = np.random.default_rng(seed)
    count, cells = len(images), ranks[0].size
    gaps = np.zeros(count)
    for start in range(0, count, BATCH):
        chosen = slice(start, min(start + BATCH, count))
        rows = np.arange(chosen.stop - start)
        for fraction in fractions:
            k = round(fraction * cells)
            for sign, removed in ((-1, ranks[chosen] < k), (1, ranks[chosen] >= cells - k)):
                filled = [impute(image, hole, rng) for image, hole in zip(images[chosen], removed, strict=True)]
                gaps[chosen] += sign * whole(np.stack(filled))[rows, labels.labels[chosen]]
    return gaps / (2 * len(fractions))


def impute(image: Images, removed: Bools, rng: np.random.Generator | None = None) -> Images:
    """Noisy linear imputation: `image` (S, S, 3) with the cells of `removed` (h, w) taken out and filled in.

    Every removed pixel becomes the weighted mean of its eight neighbours, removed ones too: one sparse system. The
    noise, `NOISE` grey levels, is drawn from `rng`; none without.
    """
    side = image.shape[0]
    hole = cv2.resize(removed.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST).ravel() > 0
    if not hole.any() or hole.all():
        return image
    rows = _system(side)[hole]
    pixels = image.reshape(-1, 3).astype(np.float64)
    known = -(rows[:, ~hole] @ pixels[~hole])
    # Symmetric and diagonally dominant: no pivoting, and an ordering for symmetric matrices.
    solver = splu(
        rows[:, hole].tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    pixels[hole] = solver.solve(known)
    if rng is not None:
        pixels[hole] += rng.normal(0, NOISE, pixels[hole].shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(image.shape)


@lru_cache(maxsize=2)
def _system(side: int) -> Any:
    """(side^2, side^2) sparse: each pixel's weights' sum on the diagonal, minus the weights of its neighbours."""
    index = np.arange(side * side).reshape(side, side)
    rows, columns, values = [], [], []
    for (y, x), weight in NEIGHBOURS.items():
        here = index[max(0, -y) : side - max(0, y), max(0, -x) : side - max(0, x)].ravel()
        rows.append(here)
        columns.append(here + y * side + x)
        values.append(np.full(len(here), weight))
    where = np.concatenate(rows), np.concatenate(columns)
    weights = sparse.csr_matrix((np.concatenate(values), where), shape=(side * side, side * side))
    return (sparse.diags(np.asarray(weights.sum(axis=1)).ravel()) - weights).tocsr()
