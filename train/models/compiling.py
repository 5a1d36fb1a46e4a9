"""torch.compile for the networks of a training, where the machine has what it takes; else as without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from medtex_edge.train.models.explainer import Decoder, Encoder
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.teacher import EnsembleTeacher, Teacher, TorchTeacher

VARIANTS = 64  # of one network's code: training and not, with features and without, several teachers, batch sizes


def compile_networks(
    trained: nn.Module, teacher: Teacher | None, device: torch.device, on_message: Callable[[str], None]
) -> bool:
    """Compile student, explainer and teacher in place; weights and their names stay.

    False, with the reason as a message, where the compiler is missing. What it cannot compile runs as before.

    Copies of a compiled module are not compiled: the averaged weights, which only validate, stay as they are.
    """
    if reason := _why_not(device):
        on_message(f"  not compiled: {reason}")
        return False
    settings: Any = torch._dynamo.config
    settings.suppress_errors = True
    settings.recompile_limit = max(VARIANTS, settings.recompile_limit)
    for module in [*trained.modules(), *_networks(teacher)]:
        if isinstance(module, Classifier | Encoder | Decoder):
            module.compile()
    on_message("  compiled: the first steps of each phase take long")
    return True


def _why_not(device: torch.device) -> str:
    """Compile three operations for the device; what went wrong, in one line, or ''."""
    try:
        probe = torch.compile(lambda x: torch.relu(2 * x + 1))
        probe(torch.ones(8, device=device))
    except Exception as error:  # the compiler's own classes differ by version, and so do its many ways to fail
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
    return ""


def _networks(teacher: Teacher | None) -> Iterator[nn.Module]:
    if isinstance(teacher, TorchTeacher):
        yield teacher.classifier
    elif isinstance(teacher, EnsembleTeacher):
        for member in teacher.members:
            yield from _networks(member)
