"""Augmentation per photograph, on the training device, limited to what happens to fundus photographs.

Flips are allowed, since left and right eyes are mirror images. Small rotations, shifts, zooms and changes of exposure
and colour happen at the camera. There is no shear and no crop: a lesion at the rim is still a lesion.
"""

from __future__ import annotations

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from medtex_edge.train.compute.processes import RankSlice, common_draws


class Augment(nn.Module):
    """(N, 3, S, S) float in 0..1 -> the same shape. Each photograph is changed differently, by PyTorch's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomVerticalFlip(p=0.5),
            K.RandomAffine(degrees=20.0, translate=(0.04, 0.04), scale=(0.92, 1.12), p=0.9),
            K.ColorJiggle(brightness=0.15, contrast=0.2, saturation=0.2, hue=0.02, p=0.9),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x, x)[0]

    def both(self, x: Tensor, teacher_images: Tensor) -> tuple[Tensor, Tensor]:
        """The same changes to the same photographs at two sizes.

        x: (N, 3, S, S) float in 0..1; teacher_images: (N, 3, T, T), or `x` itself. Returns both in these shapes.
        """
        same = teacher_images is x
        with common_draws(x.device) as share:
            for step in self.steps:
                drawn = _drawn(step, x, share)
                size = x.shape[-1]
                x = step(x, params=drawn)
                teacher_images = x if same else step(teacher_images, params=_at_size(drawn, size, teacher_images))
        return x.clamp(0, 1), teacher_images.clamp(0, 1)


def _augmentation(step: nn.Module) -> K.AugmentationBase2D:
    assert isinstance(step, K.AugmentationBase2D)
    return step


def _drawn(step: nn.Module, x: Tensor, share: RankSlice | None) -> dict[str, Tensor]:
    """kornia's random parameters for the photographs of all processes, reduced to those of this process."""
    total = len(x) * (share.count if share else 1)
    drawn: dict[str, Tensor] = _augmentation(step).forward_parameters(torch.Size((total, *x.shape[1:])))
    if share is None:
        return drawn
    mine = share.of(torch.arange(total))
    chosen = drawn["batch_prob"] > 0.5
    # Before version 0.9 kornia draws only for the photographs that it will change.
    among_chosen = (chosen.cumsum(0) - 1)[mine][chosen[mine]]
    cut = {}
    for name, value in drawn.items():
        if name == "order":  # the order of the colour changes, the same for all photographs
            cut[name] = value
        elif name == "forward_input_shape":
            cut[name] = torch.tensor(x.shape)
        elif len(value) == total:
            cut[name] = value[mine.to(value.device)]
        else:
            cut[name] = value[among_chosen.to(value.device)]
    return cut


def _at_size(drawn: dict[str, Tensor], size: int, x: Tensor) -> dict[str, Tensor]:
    """The parameters drawn for photographs of `size` pixels, converted to those of `x` (N, 3, T, T)."""
    ratio = x.shape[-1] / size
    changed = {"forward_input_shape": torch.tensor(x.shape)}
    if "translations" in drawn:
        # Both are in pixels, whose coordinates are those of their centres.
        changed["translations"] = drawn["translations"] * ratio
        changed["center"] = (drawn["center"] + 0.5) * ratio - 0.5
    return drawn | changed
