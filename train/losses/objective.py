"""The objective of MED-TEX (arXiv 2008.02593), term by term, with the letters of its equations.

    L_out  = - sum_c p_T(c|x) log q_S(c|x')                                  the variational bound on I(X'; Y_T)
    L_mid  = mean_i,c [ log s_ic + (t_ic - mu_ic(s_i))^2 / (2 s_ic^2) ]      on I(T_i; S_i), Gaussian q
    L_local = - sum_c p_T(c|x) log q(c | log mean_ij exp e_ij(x))            on I(E; Y_T), E the pooled local evidence
    L_mask = mean area beyond a budget, total variation

L_mid follows Barber & Agakov (2003) as in VID (Ahn et al., CVPR 2019): a 1 x 1 convolution gives the mean from the
student's features, a learned scale per channel the width. L_local is not in the paper: a mask from which a student can
answer need not lie on the disease, but evidence gathered cell by cell, with a small receptive field, must
(bags of local features: Brendel & Bethge, ICLR 2019; pooling: Pinheiro & Collobert, CVPR 2015).
"""

from __future__ import annotations

import math

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


class LLocal(nn.Module):
    """L_local: evidence (N, K, h, w), p (N, C) -> (): the teacher's answer from the pooled evidence alone.

    Ordered classes, K = 1: P(y >= k) = sigmoid(a_k z + b_k), z = log mean exp of the evidence (McCullagh 1980, with a
    slope per cut). Unordered, K = C - 1: the logit of class k against the first is a_k z_k + b_k. One strong lesion
    answers, and so do many weak ones.
    """

    def __init__(self, classes: int, *, ordered: bool) -> None:
        super().__init__()
        self.channels = evidence_channels(classes, ordered)
        self.ordered = self.channels == 1
        # softplus(1.85) = 2; the later grades are the rarer ones.
        self.slope = nn.Parameter(torch.full((classes - 1,), 1.85))
        self.cut = nn.Parameter(-0.6 * torch.arange(classes - 1.0) if self.ordered else torch.zeros(classes - 1))

    def answers(self, evidence: Tensor) -> Tensor:
        """(N, K, h, w) -> logits (N, C - 1): of each cut, or of each class against the first."""
        cells = evidence.shape[-2] * evidence.shape[-1]
        pooled = torch.logsumexp(evidence.float().flatten(2), dim=2) - math.log(cells)
        logits: Tensor = F.softplus(self.slope) * pooled + self.cut
        return logits

    def forward(self, evidence: Tensor, p: Tensor) -> Tensor:
        logits = self.answers(evidence)
        if self.ordered:
            reached = p.flip(1).cumsum(1).flip(1)[:, 1:].clamp(0, 1)
            return F.binary_cross_entropy_with_logits(logits, reached.float())
        return l_out(p, F.pad(logits, (1, 0)))


def evidence_channels(classes: int, ordered: bool) -> int:
    """How many numbers of evidence a cell has."""
    return 1 if ordered or classes == 2 else classes - 1


def beyond_budget(m: Tensor, budget: float) -> Tensor:
    """(N, 1, h, w) -> (): the mean over photographs of the area beyond `budget`."""
    return F.relu(m.mean(dim=(1, 2, 3)) - budget).mean()


def total_variation(m: Tensor) -> Tensor:
    """(N, 1, h, w) -> (): mean absolute step between neighbours, per side length (independent of resolution)."""
    steps = (m[..., 1:, :] - m[..., :-1, :]).abs().mean() + (m[..., 1:] - m[..., :-1]).abs().mean()
    return steps * m.shape[-1] / 10
