"""What is explained: a classifier, the number that all attribution methods explain, and the grid of their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.teacher import to_size
from medtex_edge.train.models.weights import normalisation

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

BATCH = 8  # a CAM of every stage keeps every stage's features and gradients


@dataclass(frozen=True)
class AttributionTarget:
    """A classifier to be explained, and what it takes: pictures of `size` pixels in its own normalisation."""

    of: str  # "teacher" or "student"
    net: nn.Module  # (N, 3, S, S) normalised -> logits (N, C)
    size: int
    referable: tuple[int, ...]
    compute: Compute

    def tensor(self, images: Images) -> Tensor:
        """(N, S', S', 3) uint8 -> (N, 3, S, S) in the classifier's range."""
        x = torch.from_numpy(np.array(images)).to(self.compute.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v, device=self.compute.device).view(1, 3, 1, 1) for v in self._range())
        return (to_size(x, self.size) - mean) / std

    def _range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return normalisation(getattr(self.net, "net", self.net))


def referable_log_odds(logits: Tensor, referable: Sequence[int]) -> Tensor:
    """(..., C) -> (...): the log-odds of the referable classes against the others, which the verdict is made from."""
    chosen = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    chosen[list(referable)] = True
    return torch.logsumexp(logits[..., chosen], -1) - torch.logsumexp(logits[..., ~chosen], -1)


def to_grid(maps: Floats, grid: int) -> Floats:
    """(N, h, w) -> (N, grid, grid): averaged where the map is finer, bilinear where it is coarser."""
    if maps.shape[1] == grid:
        return maps.astype(np.float32)
    how = cv2.INTER_AREA if maps.shape[1] > grid else cv2.INTER_LINEAR
    return np.stack([cv2.resize(m, (grid, grid), interpolation=how) for m in maps.astype(np.float32)])
