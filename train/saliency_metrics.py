"""Measures of a saliency map against lesion masks, with the controls without which they mean little.

A map that ignores the photograph already finds lesions, since lesions have their usual places: every score is
therefore given beside that of the mean map, of a centred Gaussian and of another photograph's map.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

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

    The rank form of Mann & Whitney (1947), ties counted half.
    """
    positive = lesions & visible
    scores = saliency[visible]
    truth = positive[visible]
    p, n = int(truth.sum()), int((~truth).sum())
    if p == 0 or n == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][truth].sum() - p * (p + 1) / 2) / (p * n))


def pointing(saliency: Floats, lesions: Bools, visible: Bools, tolerance: float) -> bool | None:
    """Whether the map's maximum lies within `tolerance` pixels of a lesion (Zhang et al., ECCV 2016)."""
    if not lesions.any():
        return None
    hidden = np.where(visible, saliency, -np.inf)
    y, x = np.unravel_index(int(hidden.argmax()), hidden.shape)
    return bool(dilate(lesions, tolerance)[y, x])


def score_maps(maps: Floats, images: npt.NDArray[np.uint8], lesions: Bools) -> dict[str, float]:
    """Mean scores of maps (N, h, w) in 0..1 for photographs (N, S, S, 3) with lesion masks (N, S, S)."""
    side = images.shape[1]
    scale = side / 224
    maps = resize_maps(maps, side)
    visible = field_of_view(images)
    aucs, hits, relevance = [], [], []
    for saliency, lesion, seen in zip(maps, lesions, visible, strict=True):
        wide = dilate(lesion, DILATION * scale)
        value, hit = pixel_auc(saliency, wide, seen), pointing(saliency, lesion, seen, POINTING * scale)
        if value is None or hit is None:
            continue
        aucs.append(value)
        hits.append(hit)
        share = float((wide & seen).sum() / seen.sum())
        relevance.append(float(saliency[wide & seen].sum() / max(float(saliency[seen].sum()), 1e-9)) / share)
    if not aucs:
        return {}
    return {
        "pixel_auc": float(np.mean(aucs)),
        "pointing": float(np.mean(hits)),
        "relevance_over_chance": float(np.mean(relevance)),
        "n": float(len(aucs)),
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
