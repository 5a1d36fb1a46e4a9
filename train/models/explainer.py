"""The explainer E: which part of the photograph carries the answer, at a quarter of the input's resolution.

An encoder cut from a pretrained backbone (its first stages: lesions are small and local) and a light decoder in
the manner of a feature pyramid (Lin et al., CVPR 2017) that ends at stride 4 with the local evidence of disease: one
number a cell where the classes are ordered, else one per class against the first. The mask is that evidence, cut at a
learnt level: what stands out in the map is evidence of disease, not merely what lets a student answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtex_edge.train.models.weights import create_model

EDGE = 1.8  # how steep the mask starts: its logit per standard deviation of the evidence


class Encoder(nn.Module):
    """The first `stages` of a backbone; gives its last feature map at each of the strides 4, 8 and 16 it reaches."""

    def __init__(self, name: str, stages: int, *, weights: str = "auto") -> None:
        super().__init__()
        net: Any = create_model(name, 2, weights=weights)
        if not all(hasattr(net, part) for part in ("conv_stem", "bn1", "blocks")):
            # Not of the EfficientNet and MobileNet families: timm's own cut, after the stage of stride 16.
            net = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2, 3))
            net.load_state_dict(create_model(name, 2, weights=weights).state_dict(), strict=False)
            self.whole: nn.Module | None = net
        else:
            self.whole = None
            self.stem = nn.Sequential(net.conv_stem, net.bn1)
            self.blocks = nn.ModuleList(list(net.blocks)[:stages])
        with torch.no_grad():
            self.eval()
            found = [(64 // f.shape[-1], f.shape[1]) for f in self(torch.zeros(1, 3, 64, 64))]
            self.train()
        self.strides, self.channels = [s for s, _ in found], [c for _, c in found]

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.whole is not None:
            features: list[Tensor] = self.whole(x)
            return features
        side = x.shape[-1]
        x = self.stem(x)
        by_stride: dict[int, Tensor] = {}
        for block in self.blocks:
            x = block(x)
            by_stride[round(side / x.shape[-1])] = x  # the last of each stride wins
        return [feature for stride, feature in by_stride.items() if stride >= 4]


class Explainer(nn.Module):
    """(N, 3, S, S) normalised -> mask logits (N, 1, S/4, S/4)."""

    def __init__(
        self, name: str, *, stages: int = 4, width: int = 32, channels: int = 1, weights: str = "auto"
    ) -> None:
        super().__init__()
        self.encoder = Encoder(name, stages, weights=weights)
        self.decoder = Decoder(self.encoder.channels, width, channels)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def evidence(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> (N, K, S/4, S/4): the evidence for the later grades, or for each class but the
        first."""
        evidence: Tensor = self.decoder(self.encoder(x))
        return evidence

    def logits(self, evidence: Tensor) -> Tensor:
        """(N, K, h, w) -> (N, 1, h, w): evidence for any class, cut at the learnt level."""
        return self.log_scale.exp() * pooled_evidence(evidence) + self.shift

    @torch.no_grad()
    def set_threshold_for_area(self, evidence: Tensor, budget: float) -> None:
        """Set the level so that of `evidence` (N, K, h, w) about the fraction `budget` is open."""
        cells = pooled_evidence(evidence.float())
        level = np.quantile(cells.cpu().numpy(), 1 - budget)
        self.log_scale.copy_((EDGE / cells.std().clamp_min(1e-3)).log())
        self.shift.copy_(-self.log_scale.exp() * float(level))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.evidence(x))


def pooled_evidence(evidence: Tensor) -> Tensor:
    """(N, K, h, w) -> (N, 1, h, w): for any class, as the mean of a cell and its eight neighbours.

    Their receptive fields nearly coincide, so what differs between them is noise; a mask cut from it is full of holes
    through which a lesion still shows.
    """
    total = torch.logsumexp(evidence, dim=1, keepdim=True) if evidence.shape[1] > 1 else evidence
    return F.avg_pool2d(total, 3, 1, 1, count_include_pad=False)


class Decoder(nn.Module):
    """Features from fine to coarse -> `out` channels at the finest: laterals, top-down sums, separable 3 x 3."""

    def __init__(self, channels: list[int], width: int, out: int = 1) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(_separable(width) for _ in channels)
        self.head = nn.Conv2d(width, out, 1)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, features: list[Tensor]) -> Tensor:
        x: Tensor | None = None
        for lateral, smooth, feature in zip(
            reversed(self.laterals), reversed(self.smooth), reversed(features), strict=True
        ):
            here = lateral(feature)
            if x is not None:
                here = here + F.interpolate(x, here.shape[-2:], mode="bilinear", align_corners=False)
            x = smooth(here)
        assert x is not None
        evidence: Tensor = self.head(x)
        return evidence


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )
