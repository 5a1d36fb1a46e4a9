"""The explainer E: which part of the photograph carries the answer, at a quarter of the input's resolution.

An encoder cut from a pretrained backbone (its first stages: lesions are small and local) and a light decoder in
the manner of a feature pyramid (Lin et al., CVPR 2017) that ends at stride 4 with one channel of logits.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtex_edge.train.weights import create_model

# On the head's output: Adam moves a weight by about its rate a step, and from 0.5 to a decided value the logit has a
# long way to go. Without it the map stayed within 0.4..0.65 over a hundred steps, in the right order but pale.
GAIN = 12.0


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
    """(N, 3, S, S) normalised -> saliency logits (N, 1, S/4, S/4)."""

    def __init__(self, name: str, *, stages: int = 4, width: int = 32, weights: str = "auto") -> None:
        super().__init__()
        self.encoder = Encoder(name, stages, weights=weights)
        self.decoder = Decoder(self.encoder.channels, width)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


class Decoder(nn.Module):
    """Features from fine to coarse -> one channel at the finest: laterals, top-down sums, separable 3 x 3."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(_separable(width) for _ in channels)
        self.head = nn.Conv2d(width, 1, 1)
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
        logits: Tensor = GAIN * self.head(x)
        return logits


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )
