"""The objective of MED-TEX (arXiv 2008.02593), term by term, with the letters of its equations.

    L_out  = - sum_c p_T(c|x) log q_S(c|x')                                  the variational bound on I(X'; Y_T)
    L_mid  = mean_i,c [ log s_ic + (t_ic - mu_ic(s_i))^2 / (2 s_ic^2) ]      on I(T_i; S_i), Gaussian q
    L_mask = mean sqrt(m), mean area beyond a budget, total variation

L_mid follows Barber & Agakov (2003) as in VID (Ahn et al., CVPR 2019): a 1 x 1 convolution gives the mean from the
student's features, a learned scale per channel the width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def l_out(p: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of the student's answer on x' with the teacher's on x: p (N, C), logits (N, C) -> ()."""
    return -(p * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def l_soft(p: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Hinton et al. (2015): T^2 KL(p^(1/T) | softmax(logits / T)): p (N, C) probabilities, logits (N, C) -> ().

    Softening probabilities by a power is softening the logits that they came from, so any teacher will do. T^2 keeps
    the gradient's size independent of T.
    """
    target = torch.softmax(p.clamp_min(1e-8).log() / temperature, dim=1)
    said = F.log_softmax(logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(said, target, reduction="batchmean")


class LMid(nn.Module):
    """L_mid over pairs of feature maps: student [(N, c_i, h, w)], teacher [(N, C_i, H, W)] -> ()."""

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
        super().__init__()
        self.mu = nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in zip(student, teacher, strict=True))
        # softplus(0.54) = 1: the scale starts at one standard deviation of standardised features.
        self.scale = nn.ParameterList(nn.Parameter(torch.full((t,), 0.54)) for t in teacher)
        self.standard = nn.ModuleList(nn.BatchNorm2d(t, affine=False) for t in teacher)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        terms = []
        for s_i, t_i, mu, scale, standard in zip(student, teacher, self.mu, self.scale, self.standard, strict=True):
            # Teachers' features differ in scale by orders of magnitude; standardised, one weight fits them all.
            target = standard(t_i.float())
            mean = mu(s_i).float()
            if mean.shape[-2:] != target.shape[-2:]:
                mean = F.interpolate(mean, target.shape[-2:], mode="bilinear", align_corners=False)
            sigma = (F.softplus(scale) + 1e-2)[None, :, None, None]
            terms.append((sigma.log() + (target - mean).square() / (2 * sigma.square())).mean())
        return torch.stack(terms).mean()


def area(m: Tensor) -> Tensor:
    """(N, 1, h, w) -> (): the price of what is open, the mean of sqrt(m).

    Concave, so that a pixel is cheapest shut or open: with the plain mean a faint veil over everything costs as
    much as a small window, and a network reads through a veil as well.
    """
    return torch.sqrt(m + 1e-3).mean()


def beyond_budget(m: Tensor, budget: float) -> Tensor:
    """(N, 1, h, w) -> (): the mean over photographs of the area beyond `budget`."""
    return F.relu(m.mean(dim=(1, 2, 3)) - budget).mean()


def total_variation(m: Tensor) -> Tensor:
    """(N, 1, h, w) -> (): mean absolute step between neighbours, per side length (independent of resolution)."""
    steps = (m[..., 1:, :] - m[..., :-1, :]).abs().mean() + (m[..., 1:] - m[..., :-1]).abs().mean()
    return steps * m.shape[-1] / 10


def l_label(labels: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy with the labels (N,), -1 where there is none: those do not count."""
    if bool((labels < 0).all()):
        return logits.sum() * 0
    return F.cross_entropy(logits.float(), labels, ignore_index=-1)
