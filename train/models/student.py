"""The student: a compact timm classifier, with its intermediate features for L_mid."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medtex_edge.train.models.weights import create_model


class Classifier(nn.Module):
    """A timm model that gives logits and, where it can, the features of its last two resolutions.

    forward (N, 3, S, S) normalised -> logits (N, C).
    """

    def __init__(self, name: str, classes: int, *, weights: str = "auto", drop_rate: float = 0.0) -> None:
        super().__init__()
        # Any: timm's models have methods that nn.Module does not declare.
        self.net: Any = create_model(name, classes, weights=weights, drop_rate=drop_rate)
        self.name = name
        info = getattr(self.net, "feature_info", None)
        stages = list(info) if isinstance(info, list) else []
        able = hasattr(self.net, "forward_intermediates") and len(stages) >= 2
        self.feature_channels: tuple[int, ...] = tuple(int(s["num_chs"]) for s in stages[-2:]) if able else ()

    def forward(self, x: Tensor, *, features: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        if not features:
            logits: Tensor = self.net(x)
            return logits
        final, found = self.net.forward_intermediates(x, indices=len(self.feature_channels))
        return self.net.forward_head(final), found

    def with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 3, S, S) -> logits (N, C) and features [(N, c, h, w), ...], in one pass."""
        if not self.feature_channels:
            return self(x), []
        # Through __call__, as torch.compile and hooks need it.
        both: tuple[Tensor, list[Tensor]] = self(x, features=True)
        return both
