"""What teacher, student and explainer cost in arithmetic and memory, without measuring time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.teacher import Teacher


@dataclass(frozen=True)
class Count:
    """Of one photograph: multiply-adds of convolutions, matrices and attention; and the number of weights."""

    macs: int
    parameters: int


def count(module: nn.Module, *inputs: torch.Tensor) -> Count:
    """Count by running `inputs`, a batch of one, through `module`."""
    return Count(_macs(lambda: module(*inputs)), sum(weights.numel() for weights in module.parameters()))


def teacher_count(teacher: Teacher, size: int | None = None) -> Count | None:
    """The same for a teacher at its own input size; None where its arithmetic cannot be counted, as in an ONNX file."""
    side = teacher.size if size is None else size
    macs = _macs(lambda: teacher.answer(torch.zeros(1, 3, side, side, device=_device(teacher))))
    modules = _modules(teacher)
    if macs == 0 or not modules:
        return None
    return Count(macs, sum(weights.numel() for module in modules for weights in module.parameters()))


def costs(model: MedTex, teacher: Teacher | None = None) -> dict[str, Any]:
    """The table `cost` of an evaluation: each part's `Count`, and the shares of multiply-adds; JSON-ready.

    `graph` is all that is exported: explainer, mask and student. `teacher` and its share are None where unknown.
    """
    device = next(model.parameters()).device
    x = torch.zeros(1, 3, model.size, model.size, device=device)
    image = torch.zeros(1, model.size, model.size, 3, dtype=torch.uint8, device=device)
    student, explainer = count(model.student, x), count(model.explainer, x)
    of_teacher = teacher_count(teacher) if teacher is not None else None
    return {
        "teacher": asdict(of_teacher) if of_teacher else None,
        "student": asdict(student),
        "explainer": asdict(explainer),
        "graph": asdict(count(model, image)),
        "explainer_over_student": explainer.macs / student.macs,
        "student_over_teacher": student.macs / of_teacher.macs if of_teacher else None,
    }


def _macs(run: Callable[[], Any]) -> int:
    """PyTorch counts a multiplication and an addition as two operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2


def _modules(teacher: Teacher) -> list[nn.Module]:
    """The networks within a teacher, those of an ensemble's members too."""
    found: list[nn.Module] = []
    for value in vars(teacher).values():
        if isinstance(value, nn.Module):
            found.append(value)
        elif isinstance(value, list):
            found += [module for member in value if hasattr(member, "answer") for module in _modules(member)]
    return found


def _device(teacher: Teacher) -> torch.device:
    weights = next((w for module in _modules(teacher) for w in module.parameters()), None)
    return weights.device if weights is not None else torch.device("cpu")
