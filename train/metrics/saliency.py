"""Measures of a saliency map against lesion masks, with the controls without which they mean little.

A map that ignores the photograph already finds lesions, since lesions have their usual places: every score is
therefore given with that of the mean map, of a centred Gaussian and of another photograph's map.

Where a map has ties, as a flat or a saturated one has, scores are the expected ones of a fair draw among them, so
that no map gains by the order in which pixels are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.train.metrics.intervals import measured
from medtex_edge.train.metrics.ranks import rank_auc

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

DILATION = 2  # pixels at 224: microaneurysms are 1-3 px and masks are drawn by hand
POINTING = 8  # pixels at 224: the maximum may lie this far from a lesion


def resize_maps(maps: Floats, side: int) -> Floats:
    """(N, h, w) -> (N, side, side), bilinear, as the graph upsamples its mask."""
    return np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) for m in maps]).astype(np.float32)


def dilate(mask: Bools, pixels: float) -> Bools:
    """(S, S) -> (S, S): every pixel within `pixels` of the mask."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    result: Bools = distance <= pixels + 1e-3
    return result


def field_of_view(images: npt.NDArray[np.uint8]) -> Bools:
    """(N, S, S, 3) -> (N, S, S): where the photograph shows anything; pixels outside are never scored."""
    result: Bools = images.max(axis=3) > 12
    return result


def pixel_auc(saliency: Floats, lesions: Bools, visible: Bools) -> float | None:
    """AUC of lesion pixels against the other visible ones, (S, S) each; None without lesions or without others.

    Ties count half.
    """
    positive = lesions & visible
    scores = saliency[visible]
    truth = positive[visible]
    if truth.all() or not truth.any():
        return None
    return rank_auc(scores, truth)


def pointing(saliency: Floats, lesions: Bools, visible: Bools, tolerance: float) -> float | None:
    """The pointing game (Zhang et al., ECCV 2016): whether the maximum lies within `tolerance` pixels of a lesion.

    1 or 0 where the maximum is one pixel, else the share of hits among the tied ones; None without lesions.
    """
    if not lesions.any():
        return None
    hidden = np.where(visible, saliency, -np.inf)
    return float(dilate(lesions, tolerance)[hidden == hidden.max()].mean())


def dice_at_own_area(saliency: Floats, lesions: Bools, visible: Bools) -> float | None:
    """Dice of the lesions and the map's k best visible pixels, k being the lesions' own area, () in 0..1.

    With equal areas Dice, precision and recall are one number: the relevance rank accuracy of Arras et al. (2022).
    """
    truth = (lesions & visible)[visible]
    k = int(truth.sum())
    if k == 0:
        return None
    scores = saliency[visible]
    cut = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, tied = scores > cut, scores == cut
    drawn = (k - int(above.sum())) / int(tied.sum())
    return float((truth[above].sum() + drawn * truth[tied].sum()) / k)


def relevance_mass(saliency: Floats, lesions: Bools, visible: Bools) -> float | None:
    """The share of a map's mass that lies in the lesions, () in 0..1 (Arras et al. 2022; Kohlbrenner et al. 2020).

    For maps of values not below 0. A map without any mass is taken for a uniform one.
    """
    truth = (lesions & visible)[visible]
    if not truth.any():
        return None
    scores = saliency[visible].astype(np.float64)
    total = float(scores.sum())
    return float(scores[truth].sum() / total) if total > 0 else float(truth.mean())


def photograph_scores(
    maps: Floats, images: npt.NDArray[np.uint8], lesions: Bools, others: Bools | None = None
) -> dict[str, Scores]:
    """Scores of maps (N, h, w), not below 0, on photographs (N, S, S, 3) with lesion masks (N, S, S): (N,) each.

    `pixel_auc`, `pointing`, `dice`, `relevance_mass` (a share) and `relevance` (that share over the lesions' share of
    the fundus: 1 is chance). Lesions are dilated by `DILATION`, and the pointing game allows `POINTING`, pixels at 224.
    NaN for photographs without such lesions. Pixels of `others`, lesions of other kinds, are neither right nor wrong.
    """
    side = images.shape[1]
    scale = side / 224
    maps = resize_maps(maps, side)
    visible = field_of_view(images)
    keys = ("pixel_auc", "pointing", "dice", "relevance_mass", "relevance")
    scores = {key: np.full(len(maps), np.nan) for key in keys}
    for index, (saliency, lesion, seen) in enumerate(zip(maps, lesions, visible, strict=True)):
        wide = dilate(lesion, DILATION * scale)
        if others is not None:
            seen = seen & ~(dilate(others[index], DILATION * scale) & ~wide)
        auc = pixel_auc(saliency, wide, seen)
        hit = pointing(saliency, lesion, seen, POINTING * scale)
        dice, mass = dice_at_own_area(saliency, wide, seen), relevance_mass(saliency, wide, seen)
        if auc is None or hit is None or dice is None or mass is None:
            continue
        share = float((wide & seen).sum() / seen.sum())
        for key, value in zip(keys, (auc, hit, dice, mass, mass / share), strict=True):
            scores[key][index] = value
    return scores


def kind_scores(
    maps: Floats, images: npt.NDArray[np.uint8], masks: Mapping[str, Bools]
) -> dict[str, dict[str, Scores]]:
    """`photograph_scores` for each kind of lesion, the other kinds left out: kind -> measure -> (N,).

    `masks` are those of `load_lesions`: kind -> (N, S, S); the optic disc and the union of all are no kinds.
    """
    kinds = [kind for kind in masks if kind not in ("OD", "ALL")]
    scores = {}
    for kind in kinds:
        rest = [masks[other] for other in kinds if other != kind]
        others: Bools | None = np.logical_or.reduce(rest) if rest else None
        scores[kind] = photograph_scores(maps, images, masks[kind], others)
    return scores


def summary(scores: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Measure -> (N,) values into measure -> {"value", "interval", "n"}, those without any value left out."""
    found = {key: measured(values) for key, values in scores.items()}
    return {key: value for key, value in found.items() if value is not None}


def score_maps(maps: Floats, images: npt.NDArray[np.uint8], lesions: Bools) -> dict[str, float]:
    """Mean scores of maps (N, h, w) in 0..1 for photographs (N, S, S, 3) with lesion masks (N, S, S)."""
    scores = photograph_scores(maps, images, lesions)
    known = ~np.isnan(scores["pixel_auc"])
    if not known.any():
        return {}
    return {
        "pixel_auc": float(scores["pixel_auc"][known].mean()),
        "pointing": float(scores["pointing"][known].mean()),
        "relevance_over_chance": float(scores["relevance"][known].mean()),
        "n": float(known.sum()),
    }


def controls(maps: Floats) -> dict[str, Floats]:
    """The maps that ignore the photograph, as (N, h, w) each: mean map, centred Gaussian, another photograph's map."""
    n, h, w = maps.shape
    y, x = np.mgrid[0:h, 0:w]
    gaussian = np.exp(-(((y - (h - 1) / 2) / h) ** 2 + ((x - (w - 1) / 2) / w) ** 2) / (2 * 0.25**2))
    return {
        "mean_map": np.broadcast_to(maps.mean(axis=0), maps.shape).astype(np.float32),
        "centred_gaussian": np.broadcast_to(gaussian, maps.shape).astype(np.float32),
        "other_photograph": np.roll(maps, 1, axis=0) if n > 1 else maps,
    }


def saliency_report(maps: Floats, images: npt.NDArray[np.uint8], lesions: Bools) -> dict[str, Any]:
    """Scores of the maps and of each control: what `metrics.json` holds under `saliency`."""
    report: dict[str, Any] = dict(score_maps(maps, images, lesions))
    report["controls"] = {name: score_maps(control, images, lesions) for name, control in controls(maps).items()}
    return report
