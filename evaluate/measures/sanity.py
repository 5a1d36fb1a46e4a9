"""Can a map be trusted at all: is it stable, does it depend on the model, is it sparse.

None of these proves that a map is right; each can show that it is not. A flat map is perfectly stable, so they are
read together and with the controls.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medtex_edge.evaluate.measures.faithfulness import BATCH, STRIDE, Floats, Images, Scores, to_stride
from medtex_edge.train.metrics.ranks import rank_correlation
from medtex_edge.train.metrics.saliency import field_of_view

MapsOf = Callable[[Images], Floats]  # images (N, S, S, 3) -> maps (N, h, w), not below 0
Model = TypeVar("Model", bound=nn.Module)

NOISE = 5.0  # grey levels of 255, up or down: what a camera's sensor adds
DRAWS = 4  # of the noise
SHIFTS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # down and right, in pixels of the mask: 4 pixels of the photograph


def max_sensitivity(
    maps_of: MapsOf, images: Images, *, noise: float = NOISE, draws: int = DRAWS, shifts: bool = True, seed: int = 0
) -> Scores:
    """(N,), lower is better: the largest relative change of the map, |map(x') - map(x)| / |map(x)|, over small
    changes x' of the photograph (Yeh et al., NeurIPS 2019; divided by the map's norm, as captum does).

    x' is the photograph with uniform noise of up to `noise` grey levels, `draws` times, and moved by one pixel of the
    mask in each direction; there the map should have moved along, and is compared where both show the same. images
    (N, S, S, 3) uint8. A map that is zero everywhere has no relative change: 0 if it stays so, else infinite.
    """
    size = images.shape[1]
    rng = np.random.default_rng(seed)

    def maps(pictures: Images) -> Floats:
        return to_stride(_in_batches(maps_of, pictures), size)

    here = maps(images)
    worst = np.zeros(len(images))
    for _ in range(draws):
        shaken = np.clip(np.rint(images + rng.uniform(-noise, noise, images.shape)), 0, 255).astype(np.uint8)
        worst = np.maximum(worst, _relative_change(here, maps(shaken)))
    for down, right in SHIFTS if shifts else ():
        moved = np.stack([_moved(image, down * STRIDE, right * STRIDE) for image in images])
        there = np.roll(maps(moved), (-down, -right), axis=(1, 2))
        # The edge is made up; leave it and its neighbours out.
        inner = (slice(None), slice(2, -2), slice(2, -2))
        worst = np.maximum(worst, _relative_change(here[inner], there[inner]))
    return worst


def _relative_change(before: Floats, after: Floats) -> Scores:
    change = np.linalg.norm((after - before).reshape(len(before), -1).astype(np.float64), axis=1)
    norm = np.linalg.norm(before.reshape(len(before), -1).astype(np.float64), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(change == 0, 0.0, change / norm)


def _moved(image: Images, down: int, right: int) -> Images:
    """(S, S, 3) -> (S, S, 3), its edge repeated into what is uncovered."""
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def shuffled(model: Model, *, seed: int = 0) -> Model:
    """A copy of `model` in evaluation mode whose weights have changed places at random within each tensor.

    The randomisation of Adebayo et al. (NeurIPS 2018) with every layer at once; shuffling keeps each tensor's values,
    so that what changes is what was learned and not the scale. Buffers stay, such as the statistics of batch norm.
    """
    other = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in other.parameters():
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))
    return other


def randomisation(
    explain: Callable[[Model, Images], Floats], model: Model, images: Images, *, repeats: int = 3
) -> Scores:
    """(N,) in 0..1, lower is better: how much of the map's ranking survives once the model's weights are shuffled.

    The absolute rank correlation over the visible part of images (N, S, S, 3), averaged over `repeats` shuffles; an
    inverted map is the same edges again, hence absolute. `explain(model, images)` gives maps (N, h, w).
    """
    size = images.shape[1]
    visible = _visible(images)
    learned = to_stride(_in_batches(lambda pictures: explain(model, pictures), images), size)
    total = np.zeros(len(images))
    for seed in range(repeats):
        other = shuffled(model, seed=seed)
        random = to_stride(_in_batches(lambda pictures, other=other: explain(other, pictures), images), size)  # type: ignore[misc]
        total += np.abs(rank_correlations(learned, random, visible))
    return total / repeats


def rank_correlations(a: Floats, b: Floats, visible: npt.NDArray[np.bool_] | None = None) -> Scores:
    """Spearman's of maps (N, h, w) with each other, over `visible` (N, h, w) or everything: (N,) in -1..1.

    0 where one of them is flat: it has no ranking that could be shared.
    """
    chosen = np.ones(a.shape, np.bool_) if visible is None else visible
    found = np.zeros(len(a))
    for index, (x, y, seen) in enumerate(zip(a, b, chosen, strict=True)):
        found[index] = rank_correlation(x[seen], y[seen]) or 0.0
    return found


def sparsity(maps: Floats) -> Scores:
    """The Gini index of maps (N, h, w): (N,), 0 for a flat map, 1 - 1/(h w) for a single pixel.

    Hurley & Rickard (2009); of explanations, Chalasani et al. (ICML 2020). Of absolute values; 0 for an empty map.
    """
    values = np.sort(np.abs(maps.reshape(len(maps), -1)).astype(np.float64), axis=1)
    n = values.shape[1]
    weights = 2 * np.arange(1, n + 1) - n - 1
    total = values.sum(axis=1)
    index: Scores = (values @ weights) / np.where(total > 0, n * total, 1.0)
    return index


def _visible(images: Images) -> npt.NDArray[np.bool_]:
    """(N, S, S, 3) -> (N, S / 4, S / 4): the black around the fundus is the same to every model."""
    return to_stride(field_of_view(images).astype(np.float32), images.shape[1]) > 0.5


def _in_batches(maps_of: Callable[[Images], Any], images: Images) -> Floats:
    return np.concatenate(
        [np.asarray(maps_of(images[i : i + BATCH]), np.float32) for i in range(0, len(images), BATCH)]
    )
