"""L_label, the losses of the photographs' own labels: cross-entropy, focal for unequal classes, ordinal for grades."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from kornia.losses import focal_loss
from torch import Tensor, nn

from medtex_edge.errors import SettingsError
from medtex_edge.train.config import LABEL_LOSSES

FOCUS = 2.0  # gamma of the focal loss, its authors' choice


class LabelLoss(nn.Module):
    """labels (N,) int64, -1 where there is none, and logits (N, C) -> (): the mean over the labelled, 0 without any.

    ce       cross-entropy
    focal    cross-entropy times (1 - p)^2: photographs that are answered already count less (Lin et al., ICCV 2017)
    ordinal  mean over the C - 1 cuts k of the cross-entropy of P(y > k): the ranked ignorance score (Toedter & Ahrens,
             Monthly Weather Review 2012). Proper, dearer the further the answer is off, and one of its cuts is the
             very probability that the verdict is made of. With two classes it is `ce`.

    `weights` (C,): how much a photograph of each class counts. `smoothing`: of the labels; `focal` has none.
    """

    weights: Tensor | None

    def __init__(self, kind: str = "ce", *, weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        if kind not in LABEL_LOSSES:
            raise SettingsError(f"label_loss: expected one of {', '.join(LABEL_LOSSES)}, got {kind!r}")
        self.kind, self.smoothing = kind, smoothing
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, labels: Tensor, logits: Tensor) -> Tensor:
        known = labels >= 0
        if not bool(known.any()):
            return logits.sum() * 0
        labels, logits = labels[known], logits[known].float()
        losses = self._each(labels, logits)
        if self.weights is None:
            return losses.mean()
        w = self.weights.to(losses)[labels]
        return (w * losses).sum() / w.sum()

    def _each(self, labels: Tensor, logits: Tensor) -> Tensor:
        if self.kind == "focal":
            return cast(Tensor, focal_loss(logits, labels, alpha=None, gamma=FOCUS, reduction="none")).sum(dim=1)
        if self.kind == "ce":
            return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        classes = logits.shape[1]
        log_p = F.log_softmax(logits, dim=1)
        up_to = log_p.logcumsumexp(dim=1)[:, :-1]  # log P(y <= k), k = 0 .. C - 2
        beyond = log_p.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:]  # log P(y > k)
        truth = F.one_hot(labels, classes).to(log_p) * (1 - self.smoothing) + self.smoothing / classes
        true_up_to = truth.cumsum(dim=1)[:, :-1]
        return -(true_up_to * up_to + (1 - true_up_to) * beyond).mean(dim=1)


def label_loss(
    kind: str, class_weights: str, labels: npt.NDArray[np.int64], classes: int, *, ordered: bool, smoothing: float = 0.0
) -> LabelLoss:
    """The loss for training photographs with these labels. Raises `SettingsError` where the two do not fit."""
    if kind == "ordinal" and not ordered:
        raise SettingsError(
            "label_loss: 'ordinal' is for grades, and these classes have no order", hint="use ce or focal"
        )
    return LabelLoss(kind, weights=parse_class_weights(class_weights, labels, classes), smoothing=smoothing)


def parse_class_weights(text: str, labels: npt.NDArray[np.int64], classes: int) -> Tensor | None:
    """'none' -> None; 'balanced' -> n / (C n_c), so that classes count alike (King & Zeng 2001); 'a,b,c' -> these.

    Returns (C,) float32. Raises `SettingsError`. A class without a labelled photograph gets 1, which is never used.
    """
    if text == "none":
        return None
    if text == "balanced":
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        weights = np.where(counts > 0, counts.sum() / (classes * np.maximum(counts, 1)), 1.0)
        return torch.tensor(weights, dtype=torch.float32)
    hint = "give balanced, none, or a number per class, such as 1,1,2,2,2"
    try:
        given = [float(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"class_weights: {text!r} is not understood", hint=hint) from None
    if len(given) != classes:
        raise SettingsError(f"class_weights: {len(given)} weights were given for {classes} classes", hint=hint)
    if not all(np.isfinite(given)) or min(given) < 0 or max(given) == 0:
        raise SettingsError(f"class_weights: expected numbers from 0, not all of them 0, got {text}", hint=hint)
    return torch.tensor(given)
