"""Losses of labels: known values, their agreement where they must agree, and what the verdict needs of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from medtex_edge.errors import SettingsError
from medtex_edge.train.config import LABEL_LOSSES
from medtex_edge.train.losses.labels import LabelLoss, label_loss, parse_class_weights

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, -1])


def test_cross_entropy_weighs_classes_and_passes_over_photographs_without_labels() -> None:
    torch.manual_seed(0)
    labels, logits, weights = torch.tensor([0, 2, -1, 1]), torch.randn(4, 3), torch.tensor([1.0, 2.0, 5.0])
    expected = F.cross_entropy(logits, labels, weight=weights, ignore_index=-1)
    assert torch.allclose(LabelLoss("ce", weights=weights)(labels, logits), expected)


@pytest.mark.parametrize("kind", LABEL_LOSSES)
def test_a_batch_without_labels_costs_nothing_and_can_be_differentiated(kind: str) -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    loss = LabelLoss(kind)(torch.full((3,), -1), logits)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0


def test_the_focal_loss_is_cross_entropy_times_what_is_missing_squared() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    p = torch.softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(LabelLoss("focal")(labels, logits), ((1 - p) ** 2 * -p.log()).mean(), atol=1e-5)


def test_with_two_classes_the_ordinal_loss_is_cross_entropy() -> None:
    torch.manual_seed(2)
    logits, labels = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert torch.allclose(LabelLoss("ordinal", smoothing=smoothing)(labels, logits), expected, atol=1e-6)


def test_the_ordinal_loss_is_the_mean_over_the_cuts() -> None:
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    # Grade 1: P(y > 0) is 0.9 and true, P(y > 1) 0.7 and false, P(y > 2) 0.4 and false.
    expected = -(np.log(0.9) + np.log(0.3) + np.log(0.6)) / 3
    assert float(LabelLoss("ordinal")(torch.tensor([1]), p.log())) == pytest.approx(expected, abs=1e-6)


def test_the_ordinal_loss_charges_more_the_further_off_the_answer_is() -> None:
    sure = 4 * torch.eye(5)
    costs = [float(LabelLoss("ordinal")(torch.tensor([0]), sure[k : k + 1])) for k in range(5)]
    assert costs == sorted(costs)
    plain = [float(LabelLoss("ce")(torch.tensor([0]), sure[k : k + 1])) for k in range(1, 5)]
    assert plain == pytest.approx([plain[0]] * 4)


@pytest.mark.parametrize("kind", ["ce", "ordinal"])
def test_a_proper_loss_is_smallest_at_the_true_frequencies(kind: str) -> None:
    truth = torch.tensor([0.5, 0.3, 0.15, 0.05])
    labels = torch.repeat_interleave(torch.arange(4), (truth * 100).round().long())
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = LabelLoss(kind)(labels, logits.expand(len(labels), 4))
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert torch.allclose(torch.softmax(logits.detach(), 0), truth, atol=5e-3)


@pytest.mark.parametrize("kind", LABEL_LOSSES)
def test_extreme_answers_stay_finite(kind: str) -> None:
    logits = torch.tensor([[300.0, -300.0, 0.0], [-300.0, 300.0, 0.0]], requires_grad=True)
    loss = LabelLoss(kind)(torch.tensor([1, 0]), logits)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_are_scikit_learns() -> None:
    weights = parse_class_weights("balanced", LABELS, 3)
    assert weights is not None
    known = LABELS[LABELS >= 0]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=known)
    assert weights.numpy() == pytest.approx(expected)
    absent = parse_class_weights("balanced", LABELS, 4)
    assert absent is not None
    assert bool(torch.isfinite(absent).all())


def test_given_weights_are_checked_against_the_classes() -> None:
    given = parse_class_weights("1, 2,0.5", LABELS, 3)
    assert given is not None
    assert given.tolist() == [1, 2, 0.5]
    assert parse_class_weights("none", LABELS, 3) is None
    for wrong in ("1,2", "1,2,x", "-1,1,1", "0,0,0", "nan,1,1", "heavy"):
        with pytest.raises(SettingsError, match="class_weights"):
            parse_class_weights(wrong, LABELS, 3)


def test_ordinal_is_refused_where_classes_have_no_order() -> None:
    with pytest.raises(SettingsError, match="no order"):
        label_loss("ordinal", "none", LABELS, 3, ordered=False)
    assert label_loss("ordinal", "balanced", LABELS, 3, ordered=True).weights is not None
