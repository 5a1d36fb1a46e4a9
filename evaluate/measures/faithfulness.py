"""Is the place that a map points at the place that decides the answer: deletion, insertion, ROAD, fidelity.

All use a model that was trained on masked pictures, `PredictMasked`; an ordinary classifier was not, and answers
nonsense there. What has to be explained is always the teacher's answer to the whole photograph, `TeacherLabels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from medtex_edge.evaluate.masked_predictor import PredictMasked

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STRIDE = 4  # pixels of the photograph per pixel of a mask, as in the exported graph
STEPS = 16
BATCH = 32


@dataclass(frozen=True)
class TeacherLabels:
    """The teacher's answers to N whole photographs: its class (N,), whether it calls them referable (N,), and which
    classes are referable."""

    labels: Ints
    referable: Bools
    classes: tuple[int, ...]


def teacher_labels(
    probabilities: npt.NDArray[np.floating[Any]], classes: tuple[int, ...], threshold: float = 0.5
) -> TeacherLabels:
    """From the teacher's probabilities (N, C) of the whole photographs and its threshold of the referable classes."""
    positive = probabilities[:, list(classes)].sum(axis=1) >= threshold
    return TeacherLabels(probabilities.argmax(axis=1).astype(np.int64), positive, classes)


@dataclass(frozen=True)
class Curves:
    """Probabilities while detail goes or comes: K+1 fractions of the area, (N, K+1) of the teacher's class, and the
    referable one, which counts where the teacher calls the photograph referable, (N,)."""

    fractions: Scores
    label: Scores
    verdict: Scores
    referable: Bools

    @property
    def areas(self) -> Scores:
        """(N,) areas under the probability of the teacher's class, in 0..1."""
        return np.asarray(trapezoid(self.label, self.fractions, axis=1), np.float64)

    @property
    def referable_areas(self) -> Scores:
        """(N,) areas under the referable probability, in 0..1; NaN where the teacher does not call it referable."""
        areas = trapezoid(self.verdict, self.fractions, axis=1)
        return np.where(self.referable, areas, np.nan)


def to_stride(maps: Floats, size: int) -> Floats:
    """(N, h, w) -> (N, size / 4, size / 4): where masks live, so that every method removes pieces of one size."""
    side = size // STRIDE
    if maps.shape[1:] == (side, side):
        return maps
    how = cv2.INTER_AREA if maps.shape[1] > side else cv2.INTER_LINEAR
    return np.stack([cv2.resize(m.astype(np.float32), (side, side), interpolation=how) for m in maps])


def order(maps: Floats, *, seed: int = 0) -> Ints:
    """(N, h, w) -> (N, h, w): each pixel's rank in its map, 0 the most salient; ties are drawn."""
    flat = maps.reshape(len(maps), -1)
    luck = np.random.default_rng(seed).random(flat.shape)
    indices = np.lexsort((luck, -flat), axis=1)
    ranks = np.empty_like(indices)
    np.put_along_axis(ranks, indices, np.broadcast_to(np.arange(flat.shape[1]), flat.shape), axis=1)
    return ranks.reshape(maps.shape)


def cut(maps: Floats, areas: npt.NDArray[np.floating[Any]] | float, *, seed: int = 0) -> Floats:
    """The best part of each map (N, h, w), `areas` (N,) or one for all in 0..1, as masks of zeros and ones."""
    count = np.round(np.broadcast_to(areas, len(maps)) * maps[0].size)[:, None, None]
    masks: Floats = (order(maps, seed=seed) < count).astype(np.float32)
    return masks


def deletion(
    predict: PredictMasked, images: Images, maps: Floats, labels: TeacherLabels, *, steps: int = STEPS
) -> Curves:
    """Detail goes, the most salient first (RISE, Petsiuk et al., BMVC 2018): the lower the area, the better.

    images (N, S, S, 3), maps (N, h, w) in any range. What goes is replaced by the photograph's own blur, through
    `predict`, where RISE had grey: grey is itself a sign to a network.
    """
    return _curves(predict, images, maps, labels, steps, opening=False)


def insertion(
    predict: PredictMasked, images: Images, maps: Floats, labels: TeacherLabels, *, steps: int = STEPS
) -> Curves:
    """Detail comes back into the blurred photograph, the most salient first: the higher, the better."""
    return _curves(predict, images, maps, labels, steps, opening=True)


def _curves(
    predict: PredictMasked, images: Images, maps: Floats, labels: TeacherLabels, steps: int, *, opening: bool
) -> Curves:
    maps = to_stride(maps, images.shape[1])
    ranks = order(maps)
    fractions = np.linspace(0, 1, steps + 1)
    label, verdict = np.empty((len(maps), steps + 1)), np.empty((len(maps), steps + 1))
    for step, fraction in enumerate(fractions):
        chosen = ranks < round(fraction * maps[0].size)
        p = predict_in_batches(predict, images, (chosen if opening else ~chosen).astype(np.float32))
        label[:, step] = p[np.arange(len(p)), labels.labels]
        verdict[:, step] = p[:, list(labels.classes)].sum(axis=1)
    return Curves(fractions, label, verdict, labels.referable)


def predict_in_batches(predict: PredictMasked, images: Images, masks: Floats) -> Scores:
    """`predict` in batches: (N, C)."""
    starts = range(0, len(images), BATCH)
    return np.concatenate(
        [np.asarray(predict(images[i : i + BATCH], masks[i : i + BATCH]), np.float64) for i in starts]
    )


@dataclass(frozen=True)
class Fidelity:
    """Post-hoc fidelity, (N,) each: 1 where the label, the verdict is kept on the masked photograph, else 0; the
    mask's mean area in 0..1; whether the teacher calls it referable."""

    label: Scores
    verdict: Scores
    area: Scores
    referable: Bools

    @property
    def verdict_referable(self) -> Scores:
        """(N,): the verdict kept, NaN where the teacher does not call the photograph referable."""
        return np.where(self.referable, self.verdict, np.nan)

    @property
    def area_referable(self) -> Scores:
        """(N,): the area, NaN where the teacher does not call the photograph referable."""
        return np.where(self.referable, self.area, np.nan)


def fidelity(
    probabilities: npt.NDArray[np.floating[Any]], masks: Floats, labels: TeacherLabels, threshold: float = 0.5
) -> Fidelity:
    """Whether the answer to the masked photograph, probabilities (N, C), is the teacher's to the whole one.

    Post-hoc fidelity of Chen et al. (L2X, ICML 2018). `masks` (N, h, w) in 0..1 as deployed, not cut; `threshold` is
    that of the model which gave the probabilities, for the referable classes together.
    """
    positive = probabilities[:, list(labels.classes)].sum(axis=1) >= threshold
    return Fidelity(
        label=(probabilities.argmax(axis=1) == labels.labels).astype(np.float64),
        verdict=(positive == labels.referable).astype(np.float64),
        area=masks.mean(axis=(1, 2), dtype=np.float64),
        referable=labels.referable,
    )
