"""Random masks: a student learns to answer under them, so that its answers under any mask mean something.

A student taught under masks of all sizes and shapes estimates E[p_T(. | x) | what is visible]: the surrogate of
FastSHAP (Jethani et al., ICLR 2022) and the evaluator of REAL-X (Jethani et al., AISTATS 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medtex_edge.train.compute.processes import draw_rows

GRIDS = (3, 5, 8, 14, 28)  # cells across: from half the fundus to single lesions


def random_masks(count: int, side: int, *, whole: float = 0.2, device: torch.device | None = None) -> Tensor:
    """(count, 1, side, side) float in 0..1: smooth noise cut at a random open area.

    Areas are uniform in 0..1; a fraction `whole` is fully open. The edge's softness is random too, since an
    explainer's masks are soft. Randomness is PyTorch's global generator of `device`; see `train/compute/processes.py`.
    """
    return draw_rows(count, lambda n: _random_masks(n, side, whole, device), device)


def _random_masks(count: int, side: int, whole: float, device: torch.device | None) -> Tensor:
    noise = torch.zeros(count, 1, side, side, device=device)
    choice = torch.randint(len(GRIDS), (count,), device=device)
    for number, cells in enumerate(GRIDS):
        chosen = choice == number
        picked = int(chosen.sum())
        if picked:
            cell = torch.rand(picked, 1, cells, cells, device=device)
            noise[chosen] = F.interpolate(cell, (side, side), mode="bilinear", align_corners=False)
    area = torch.rand(count, device=device)
    # Cut at the quantile, so that the open area is the drawn one whatever the noise is.
    index = ((1 - area) * (side * side - 1)).long().clamp(0, side * side - 1)
    cut = noise.flatten(1).sort(dim=1).values.gather(1, index[:, None])[:, :, None, None]
    softness = 0.005 + 0.1 * torch.rand(count, 1, 1, 1, device=device)
    mask = torch.sigmoid((noise - cut) / softness)
    opened = torch.rand(count, 1, 1, 1, device=device) < whole
    return torch.where(opened, torch.ones_like(mask), mask)
