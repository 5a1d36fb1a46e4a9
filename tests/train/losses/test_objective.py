"""The terms of the objective, held to closed forms and to hand-made cases."""

from __future__ import annotations

import pytest
import torch

from medtex_edge.train.losses.masks import random_masks
from medtex_edge.train.losses.objective import LLocal, LMid, beyond_budget, l_out, total_variation
from medtex_edge.train.models.explainer import Explainer


def test_l_out_is_the_teachers_entropy_where_the_student_agrees() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(l_out(p, p.log()), entropy)


def test_l_out_is_smallest_at_the_teachers_answer() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1]])
    best = l_out(p, p.log())
    for shift in torch.randn(20, 1, 3, generator=torch.Generator().manual_seed(0)):
        assert l_out(p, p.log() + shift) >= best - 1e-6


def test_l_mid_falls_when_the_student_carries_the_teachers_features() -> None:
    torch.manual_seed(0)
    t = torch.randn(8, 6, 4, 4) * 5 + 3
    term = LMid((6,), (6,))
    optimizer = torch.optim.Adam(term.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = term([t], [t])
        loss.backward()
        optimizer.step()
    carried = float(loss.detach())
    unrelated = float(term([torch.randn_like(t)], [t]).detach())
    # A Gaussian that explains nothing costs 0.5 at unit scale; one that explains everything goes far below.
    assert carried < -0.5 < unrelated


def test_l_mid_meets_feature_maps_of_another_resolution_and_width() -> None:
    term = LMid((3, 5), (7, 11))
    loss = term(
        [torch.randn(2, 3, 7, 7), torch.randn(2, 5, 4, 4)], [torch.randn(2, 7, 14, 14), torch.randn(2, 11, 7, 7)]
    )
    assert torch.isfinite(loss)


def test_the_budget_costs_nothing_below_and_the_excess_above() -> None:
    below, above = torch.full((2, 1, 8, 8), 0.1), torch.full((2, 1, 8, 8), 0.5)
    assert float(beyond_budget(below, 0.2)) == 0
    assert float(beyond_budget(above, 0.2)) == pytest.approx(0.3)


def test_total_variation_knows_flat_from_dusty_and_not_the_resolution() -> None:
    flat, dusty = torch.full((1, 1, 16, 16), 0.7), (torch.rand(1, 1, 16, 16) > 0.5).float()
    assert float(total_variation(flat)) == 0 < float(total_variation(dusty))
    edge = torch.zeros(1, 1, 16, 16)
    edge[..., 8:] = 1
    fine = edge.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert float(total_variation(edge)) == pytest.approx(float(total_variation(fine)), rel=0.1)


@pytest.mark.parametrize(("classes", "ordered", "channels"), [(5, True, 1), (2, False, 1), (4, False, 3)])
def test_l_local_is_smallest_where_the_evidence_tells_the_teachers_answer(
    classes: int, ordered: bool, channels: int
) -> None:
    term = LLocal(classes, ordered=ordered)
    assert term.channels == channels
    p = torch.eye(classes)[[0, -1]]
    evidence = torch.full((2, channels, 8, 8), -4.0)
    evidence[1, -1, :2, :2] = 9.0  # the last class, in one corner
    informed, blank = term(evidence, p), term(torch.zeros_like(evidence), p)
    assert float(informed.detach()) < float(blank.detach())
    gradient = torch.autograd.grad(term(evidence.requires_grad_(), p), evidence)[0]
    # A diseased photograph asks for evidence and a healthy one for none.
    assert float(gradient[0].sum()) > 0


def test_l_local_hears_one_strong_lesion_and_many_weak_ones() -> None:
    term = LLocal(2, ordered=True)
    nothing = torch.full((1, 1, 16, 16), -3.0)
    strong, many = nothing.clone(), torch.full_like(nothing, -1.0)
    strong[..., 5, 7] = 6.0
    for evidence in (strong, many):
        assert float((term.answers(evidence) - term.answers(nothing)).detach()) > 1


def test_random_masks_cover_all_areas_and_stay_in_range() -> None:
    torch.manual_seed(1)
    masks = random_masks(400, 56)
    areas = masks.mean(dim=(1, 2, 3))
    assert masks.shape == (400, 1, 56, 56)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    assert 0.1 < float((areas > 0.999).float().mean()) < 0.35
    for low in (0.0, 0.25, 0.5, 0.75):
        assert float(((areas >= low) & (areas < low + 0.25)).float().mean()) > 0.08


def test_random_masks_repeat_with_the_seed() -> None:
    torch.manual_seed(7)
    first = random_masks(5, 32)
    torch.manual_seed(7)
    assert torch.equal(first, random_masks(5, 32))


def test_the_mask_keeps_the_order_of_the_neighbourhoods_evidence_and_opens_about_the_budget() -> None:
    torch.manual_seed(0)
    explainer = Explainer("test_efficientnet", stages=3, width=8, weights="none").eval()
    evidence = torch.randn(40, 1, 16, 16) * 3 + 5
    explainer.set_threshold_for_area(evidence, 0.2)
    m = torch.sigmoid(explainer.logits(evidence))
    assert 0.15 < float(m.detach().mean()) < 0.3
    edges = torch.nn.functional.pad(torch.ones_like(evidence), (1, 1, 1, 1))
    padded = torch.nn.functional.pad(evidence, (1, 1, 1, 1))
    mean = padded.unfold(2, 3, 1).unfold(3, 3, 1).sum((-1, -2)) / edges.unfold(2, 3, 1).unfold(3, 3, 1).sum((-1, -2))
    rising = m.detach().flatten()[mean.flatten().argsort()].diff()
    assert bool((rising >= -1e-6).all())
