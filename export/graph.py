"""The module that is exported: the computation of `MedTex.forward`, arranged so that it becomes a plain graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medtex_edge.train.models.cost import count
from medtex_edge.train.models.medtex import MedTex


class Deployed(nn.Module):
    """image (N, S, S, 3) uint8 RGB -> probabilities (N, C) float32, saliency (N, S/4, S/4) float32 in 0..1.

    The same as `MedTex.forward` up to rounding; parity is measured against that, never against this.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: MedTex) -> None:
        super().__init__()
        self.model = model
        # x / 255, minus mean, over std, as one multiplication and one addition.
        self.register_buffer("scale", 1 / (255 * model.std))
        self.register_buffer("shift", -model.mean / model.std)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # Cast first: TensorRT refuses to permute UINT8. Contiguous, or the exporter takes the permuted strides
        # for channels-last and spells global pooling out as index arithmetic.
        x = image.float().permute(0, 3, 1, 2).contiguous()
        x = x * self.scale + self.shift
        m = self.model.masks(x)
        logits = self.model.student(self.model.masked(x, m))
        return torch.softmax(logits * (1 / self.model.temperature), dim=1), m[:, 0]


@dataclass(frozen=True)
class Cost:
    """Of one photograph: multiply-adds of convolutions and matrices, and weights."""

    student_multiply_adds: int
    explainer_multiply_adds: int
    student_parameters: int
    explainer_parameters: int


def cost(model: MedTex) -> Cost:
    """Count by running one black photograph through each part."""
    x = torch.zeros(1, 3, model.size, model.size)
    student, explainer = count(model.student, x), count(model.explainer, x)
    return Cost(student.macs, explainer.macs, student.parameters, explainer.parameters)
