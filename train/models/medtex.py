"""Student and explainer as one module: the very computation that is exported."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.weights import normalisation


class MedTex(nn.Module):
    """forward: image (N, S, S, 3) uint8 RGB -> probabilities (N, C) float32, saliency (N, S/4, S/4) float32 in 0..1.

    m = sigmoid(E(x)), x' = u(m) x + (1 - u(m)) b, probabilities = softmax(S(x') / temperature); b is the photograph
    average-pooled to about `baseline_grid` cells a side and resized back: the student sees detail under the mask only.
    With baseline="mean", b is 0 instead, the mean colour of the normalisation, as in arXiv 2008.02593.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, student: Classifier, explainer: Explainer, *, size: int, baseline_grid: int = 14, baseline: str = "blur"
    ) -> None:
        super().__init__()
        self.plain = baseline == "mean"
        self.student, self.explainer = student, explainer
        self.size, self.grid = size, size // 4
        # The divisor of the side that comes nearest to the wanted grid: cells must tile the picture.
        self.cell = min((c for c in range(1, size + 1) if size % c == 0), key=lambda c: abs(c - size / baseline_grid))
        self.temperature = 1.0
        mean, std = normalisation(student.net)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) float in 0..1 -> the backbone's own range."""
        return (x - self.mean) / self.std

    def masks(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> m (N, 1, S/4, S/4) in 0..1."""
        return torch.sigmoid(self.explainer(x).float())

    def baseline(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> b of the same shape: the photograph without its detail."""
        if self.plain:
            return torch.zeros_like(x)
        # A fixed kernel instead of adaptive pooling, which TensorRT does not read for every size.
        pooled = F.avg_pool2d(x, self.cell)
        return F.interpolate(pooled, (self.size, self.size), mode="bilinear", align_corners=False)

    def masked(self, x: Tensor, m: Tensor, b: Tensor | None = None) -> Tensor:
        """x' = u(m) x + (1 - u(m)) b."""
        u = F.interpolate(m, (self.size, self.size), mode="bilinear", align_corners=False)
        if b is None and self.plain:
            return u * x
        b = self.baseline(x) if b is None else b
        return b + u * (x - b)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # Cast first: TensorRT refuses to permute UINT8.
        x = self.normalise(image.float().permute(0, 3, 1, 2) / 255.0)
        m = self.masks(x)
        logits = self.student(self.masked(x, m)).float()
        return torch.softmax(logits / self.temperature, dim=1), m[:, 0]
