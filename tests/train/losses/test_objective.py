"""The terms of the objective, held to closed forms and to hand-made cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtex_edge.train.loop.distillation import frozen
from medtex_edge.train.losses.masks import NESTED, nested_masks, random_masks, random_shares
from medtex_edge.train.losses.objective import LLocal, LMid, beyond_budget, l_order, l_out, total_variation
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.student import Classifier


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
    told, blank = term(evidence, p), term(torch.zeros_like(evidence), p)
    assert float(told.detach()) < float(blank.detach())
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


def test_l_order_asks_for_the_verdict_where_the_teacher_refers_and_nowhere_else() -> None:
    said = torch.log(torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]]))
    p = torch.tensor([[0.0, 0.5, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    # The first is referable with 0.5 and is said to be with 0.2; the second is healthy and weighs nothing.
    assert float(l_order(p, said, (2, 3))) == pytest.approx(-0.5 * math.log(0.2) / 2)
    # Which of the referable grades is said makes no difference.
    other = torch.log(torch.tensor([[0.7, 0.1, 0.19, 0.01], [0.7, 0.1, 0.1, 0.1]]))
    assert float(l_order(p, other, (2, 3))) == pytest.approx(float(l_order(p, said, (2, 3))))


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_nested_masks_open_their_share_in_the_evidences_order_whatever_its_scale(
    seed: int, scale: float, shift: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    evidence = torch.randn(3, 1, 24, 24, generator=draw)
    shares = torch.tensor([0.02, 0.3, 0.9])
    masks = nested_masks(evidence, shares)
    for m, e, share in zip(masks, evidence, shares, strict=True):
        assert float((m > 0.5).float().mean()) == pytest.approx(float(share), abs=2 / e.numel())
        assert float(m[m > 0.5].min()) >= float(m[m <= 0.5].max())
        assert float(e[m > 0.5].min()) >= float(e[m <= 0.5].max())
    torch.testing.assert_close(nested_masks(scale * evidence + shift, shares), masks, rtol=1e-2, atol=1e-3)
    assert bool((nested_masks(evidence, shares + 0.1) >= masks).all())


def test_a_gradient_through_nested_masks_moves_cells_apart_and_not_all_of_them_up() -> None:
    evidence = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8).requires_grad_()
    nested_masks(evidence, torch.tensor([0.5])).sum().backward()
    assert evidence.grad is not None
    # Greatest at the level that was cut, nearly none at cells whose place is beyond doubt.
    assert float(evidence.grad.flatten()[31:33].mean()) > 20 * float(evidence.grad.flatten()[[0, -1]].mean()) > 0


def test_shares_are_drawn_as_often_from_each_octave() -> None:
    torch.manual_seed(0)
    shares = random_shares(4000)
    low, high = NESTED
    assert low <= float(shares.min())
    assert float(shares.max()) <= high
    assert float((shares < (low * high) ** 0.5).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_a_student_that_judges_an_order_learns_nothing_from_it() -> None:
    torch.manual_seed(0)
    student = Classifier("test_efficientnet", 3, weights="none").train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    x = torch.rand(2, 3, 64, 64, requires_grad=True)
    with frozen(student) as judge:
        answer = judge(x)
    answer.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert all(weights.grad is None and weights.requires_grad for weights in student.parameters())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert student.training
