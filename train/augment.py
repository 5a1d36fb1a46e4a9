"""Augmentation per photograph, on the device that trains, with the geometry that a fundus allows.

Left and right eyes are mirror images, so flips are; small rotations, shifts and zooms happen at the camera, and so
do exposure and colour. No shear, no crop: a lesion at the rim is still a lesion.
"""

from __future__ import annotations

import kornia.augmentation as K
from torch import Tensor, nn


class Augment(nn.Module):
    """(N, 3, S, S) float in 0..1 -> the same, each photograph differently, from PyTorch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomVerticalFlip(p=0.5),
            K.RandomAffine(degrees=20.0, translate=(0.04, 0.04), scale=(0.92, 1.12), p=0.9),
            K.ColorJiggle(brightness=0.15, contrast=0.2, saturation=0.2, hue=0.02, p=0.9),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.steps(x)
        return result.clamp(0, 1)
