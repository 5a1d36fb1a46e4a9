"""The objective of MED-TEX (Nguyen-Duc et al., ISBI 2022, arXiv 2008.02593): its equations, term by term.

For a photograph x, teacher T, student S, explainer E with evidence e, upsampling u and baseline b:

    m  = u(sigmoid(E(x)))            the mask
    x' = m * x + (1 - m) * b         all that the student sees

    L_out   = - sum_c p_T(c|x) log q_S(c|x')                                    the variational bound on I(X'; Y_T)
    L_mid   = mean_i,c [ log s_ic + (t_ic - mu_ic(s_i))^2 / (2 s_ic^2) ]        on I(T_i; S_i), Gaussian q
    L_local = - sum_c p_T(c|x) log q(c | log mean_ij exp e_ij(x))               on I(E; Y_T), E the pooled evidence
    L_mask  = the area of m beyond a budget, and the total variation of m

L_out and L_mid are the paper's. L_local is not: a mask from which a student can answer need not lie on the disease, but
evidence gathered cell by cell, with a small receptive field, must. Each term is weighted by `train/config.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def l_out(p_T: Tensor, logits: Tensor) -> Tensor:
    """L_out (Barber & Agakov, NIPS 2003): the cross-entropy of the student's answer on x' with the teacher's on x.

    p_T (N, C) probabilities, logits (N, C) of q_S -> ().
    """
    log_q_S = F.log_softmax(logits.float(), dim=1)
    return -(p_T * log_q_S).sum(dim=1).mean()


def l_soft(p_T: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(p_T^(1/T) | softmax(logits / T)), in the place of L_out (Hinton et al. 2015, arXiv 1503.02531).

    p_T (N, C) probabilities, logits (N, C) -> (). Softening probabilities by a power is softening the logits that they
    came from, so any teacher will do. T^2 keeps the gradient's size independent of T.
    """
    p_soft = torch.softmax(p_T.clamp_min(1e-8).log() / temperature, dim=1)
    log_q_soft = F.log_softmax(logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q_soft, p_soft, reduction="batchmean")


class LMid(nn.Module):
    """L_mid over pairs of feature maps: student s_i [(N, c_i, h, w)], teacher t_i [(N, C_i, H, W)] -> ().

    As in VID (Ahn et al., CVPR 2019): a 1 x 1 convolution mu_i gives the mean from the student's features, a learned
    scale per channel the width s_ic.
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
        super().__init__()
        self.mu = nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in zip(student, teacher, strict=True))
        # softplus(0.54) = 1: the scale starts at one standard deviation of standardised features.
        self.scale = nn.ParameterList(nn.Parameter(torch.full((t,), 0.54)) for t in teacher)
        self.standard = nn.ModuleList(nn.BatchNorm2d(t, affine=False) for t in teacher)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        terms = []
        for s_i, t_i, mu_i, scale, standard in zip(student, teacher, self.mu, self.scale, self.standard, strict=True):
            # Teachers' features differ in scale by orders of magnitude; standardised, one weight fits them all.
            t = standard(t_i.float())
            mu = mu_i(s_i).float()
            if mu.shape[-2:] != t.shape[-2:]:
                mu = F.interpolate(mu, t.shape[-2:], mode="bilinear", align_corners=False)
            s = (F.softplus(scale) + 1e-2)[None, :, None, None]
            terms.append((s.log() + (t - mu).square() / (2 * s.square())).mean())
        return torch.stack(terms).mean()


class LLocal(nn.Module):
    """L_local: evidence e (N, K, h, w), p_T (N, C) -> (): the teacher's answer from the pooled evidence alone.

    Evidence as in bags of local features (Brendel & Bethge, ICLR 2019), pooling as in Pinheiro & Collobert (CVPR 2015).
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
        z = torch.logsumexp(evidence.float().flatten(2), dim=2) - math.log(cells)
        a, b = F.softplus(self.slope), self.cut
        logits: Tensor = a * z + b
        return logits

    def forward(self, evidence: Tensor, p_T: Tensor) -> Tensor:
        logits = self.answers(evidence)
        if self.ordered:
            reached = p_T.flip(1).cumsum(1).flip(1)[:, 1:].clamp(0, 1)
            return F.binary_cross_entropy_with_logits(logits, reached.float())
        return l_out(p_T, F.pad(logits, (1, 0)))


def evidence_channels(classes: int, ordered: bool) -> int:
    """How many numbers of evidence a cell has."""
    return 1 if ordered or classes == 2 else classes - 1


def beyond_budget(m: Tensor, budget: float) -> Tensor:
    """L_mask, first part: m (N, 1, h, w) -> (): the mean over photographs of the area beyond `budget`."""
    return F.relu(m.mean(dim=(1, 2, 3)) - budget).mean()


def total_variation(m: Tensor) -> Tensor:
    """L_mask, second part (Rudin et al. 1992): m (N, 1, h, w) -> (), the mean absolute step between neighbours.

    Per side length, and so independent of the resolution.
    """
    steps = (m[..., 1:, :] - m[..., :-1, :]).abs().mean() + (m[..., 1:] - m[..., :-1]).abs().mean()
    return steps * m.shape[-1] / 10
