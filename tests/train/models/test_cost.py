"""Multiply-adds and weights of networks that can be counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import run_kit
import torch
from torch import nn

from medtex_edge.evaluate.measures.speed import StudentAlone, explanation_times
from medtex_edge.train.compute.device import choose
from medtex_edge.train.models.cost import Count, costs, count, teacher_count
from medtex_edge.train.models.teacher import Answer, EnsembleTeacher, TorchTeacher


def test_layers_are_counted_as_by_hand() -> None:
    x = torch.zeros(1, 8, 10, 10)
    assert count(nn.Conv2d(8, 16, 3, padding=1), x) == Count(10 * 10 * 16 * 8 * 9, 16 * 8 * 9 + 16)
    # Each output of a depthwise convolution sees one channel.
    assert count(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), x) == Count(5 * 5 * 8 * 9, 8 * 9)
    assert count(nn.Linear(20, 7), torch.zeros(1, 20)) == Count(140, 147)
    assert count(nn.BatchNorm2d(8).eval(), x).macs == 0  # folded into its convolution when exported


def test_the_graph_is_explainer_and_student_and_no_more() -> None:
    model = run_kit.model()
    found = costs(model)
    assert found["graph"]["macs"] == found["student"]["macs"] + found["explainer"]["macs"]
    assert found["graph"]["parameters"] == found["student"]["parameters"] + found["explainer"]["parameters"]
    assert found["explainer_over_student"] == found["explainer"]["macs"] / found["student"]["macs"]
    assert found["teacher"] is None
    assert found["student_over_teacher"] is None


def test_a_teacher_is_counted_at_its_own_size_and_an_ensemble_in_all_its_members() -> None:
    model, compute = run_kit.model(), choose("fp32")
    same = TorchTeacher("toy", model.student, model.size, compute)
    assert costs(model, same)["student_over_teacher"] == pytest.approx(1)
    larger = TorchTeacher("toy", model.student, 2 * model.size, compute)
    assert costs(model, larger)["student_over_teacher"] == pytest.approx(1 / 4, rel=0.1)
    both = teacher_count(EnsembleTeacher([same, same]))
    one = teacher_count(same)
    assert both is not None
    assert one is not None
    assert (both.macs, both.parameters) == (2 * one.macs, 2 * one.parameters)


def test_a_teacher_whose_arithmetic_is_hidden_has_no_count() -> None:
    hidden = SimpleNamespace(size=32, answer=lambda x: Answer(torch.ones(len(x), 2) / 2, []))
    assert teacher_count(hidden) is None  # type: ignore[arg-type]


def test_the_student_alone_is_the_graph_under_an_open_mask() -> None:
    model = run_kit.model()
    image = torch.randint(0, 256, (2, model.size, model.size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        x = model.normalise(image.permute(0, 3, 1, 2).float() / 255)
        expected = torch.softmax(model.student(model.masked(x, torch.ones(2, 1, model.grid, model.grid))), dim=1)
        torch.testing.assert_close(StudentAlone(model)(image), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_times_are_given_for_both_ways_and_the_model_is_left_as_it_was() -> None:
    pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam is not installed")
    model = run_kit.model()
    threads = torch.get_num_threads()
    found = explanation_times(model, repeats=2)
    for table in found.values():
        assert table["ratio"] == pytest.approx(table["both_ms"] / table["student_ms"])
    assert torch.get_num_threads() == threads
    assert not any(module._forward_hooks for module in model.modules())
    assert all(weights.grad is None for weights in model.parameters())
