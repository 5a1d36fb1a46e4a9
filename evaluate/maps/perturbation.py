"""Attribution by changed inputs: integrated gradients from a blurred photograph, and RISE under random masks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import nn

from medtex_edge.evaluate.maps.target import BATCH, AttributionTarget, Floats, Images, referable_log_odds, to_grid
from medtex_edge.evaluate.masked_predictor import PredictMasked

IG_STEPS = 10  # points on the path from the blurred photograph; each costs a forward and a backward pass
RISE_MASKS = 128  # the paper takes thousands; each costs a forward pass per photograph
RISE_CELLS = 7
RISE_OPEN = 0.5


def integrated_gradients(target: AttributionTarget, images: Images, *, grid: int) -> Floats:
    """Integrated gradients (Sundararajan et al., ICML 2017) by captum, from the blurred photograph; the absolute
    sum over the colours, averaged over each cell: (N, grid, grid)."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(lambda x: referable_log_odds(target.net(x).float(), target.referable))
    parts = []
    for start in range(0, len(images), BATCH):
        x = target.tensor(images[start : start + BATCH])
        small = nn.functional.adaptive_avg_pool2d(x, 14)
        blurred = nn.functional.interpolate(small, x.shape[-2:], mode="bilinear", align_corners=False)
        with target.compute.autocast():
            found = method.attribute(x, baselines=blurred, n_steps=IG_STEPS, internal_batch_size=2 * BATCH)
        parts.append(found.detach().sum(1).abs().cpu().numpy().astype(np.float32))
    return to_grid(np.concatenate(parts), grid)


def rise(predict: PredictMasked, images: Images, referable: Sequence[int], *, grid: int, seed: int = 0) -> Floats:
    """RISE (Petsiuk et al., BMVC 2018): the mean of random masks, each weighted by the referable probability under
    it. What a mask hides is blurred as for every other measure, not black. (N, S, S, 3) -> (N, grid, grid)."""
    masks = _rise_masks(grid, seed)
    parts = []
    for image in images:
        scores = predict(np.broadcast_to(image, (len(masks), *image.shape)), masks)[:, list(referable)].sum(1)
        # Centred, which the paper leaves to its thousands of masks: the mean score times the masks' own unevenness.
        found = np.tensordot(scores - scores.mean(), masks, 1) / len(masks)
        parts.append(found - found.min())
    return np.stack(parts).astype(np.float32)


def _rise_masks(grid: int, seed: int) -> Floats:
    """(RISE_MASKS, grid, grid): random cells, enlarged smoothly and shifted by part of a cell."""
    rng = np.random.default_rng(seed)
    cell = -(-grid // RISE_CELLS)
    side = (RISE_CELLS + 1) * cell
    masks = np.empty((RISE_MASKS, grid, grid), np.float32)
    for mask in masks:
        cells = (rng.random((RISE_CELLS + 1, RISE_CELLS + 1)) < RISE_OPEN).astype(np.float32)
        y, x = rng.integers(0, cell, 2)
        mask[:] = cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR)[y : y + grid, x : x + grid]
    return masks
