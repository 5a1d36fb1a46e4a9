"""Augmentation: a photograph at two sizes is changed equally, so that teacher and student get one view."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medtex_edge.train.compute.processes import seeded_step
from medtex_edge.train.data.augment import Augment


def _smooth(count: int, size: int) -> Tensor:
    """Photographs without fine detail, so that resizing alone changes little."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def _inside(x: Tensor) -> Tensor:
    """Without the border, which a rotation fills with black."""
    side = x.shape[-1]
    return x[..., side // 4 : -side // 4, side // 4 : -side // 4]


@pytest.mark.parametrize(("size", "teacher_size"), [(64, 96), (64, 160), (96, 64)])
def test_both_sizes_of_a_photograph_are_changed_alike(size: int, teacher_size: int) -> None:
    torch.manual_seed(3)
    large = _smooth(16, 192)
    small, big = (F.interpolate(large, (s, s), mode="bilinear", antialias=True) for s in (size, teacher_size))
    a, b = Augment().both(small, big)
    assert a.shape[-1] == size
    assert b.shape[-1] == teacher_size
    same = F.interpolate(b, (size, size), mode="bilinear", antialias=True)
    moved = float((_inside(a) - _inside(small)).abs().mean())
    apart = float((_inside(a) - _inside(same)).abs().mean())
    assert moved > 0.05
    assert apart < 0.1 * moved


def test_one_size_is_changed_once_and_as_by_itself() -> None:
    augment, x = Augment(), _smooth(8, 48)
    torch.manual_seed(1)
    a, b = augment.both(x, x)
    torch.manual_seed(1)
    assert a is b or torch.equal(a, b)
    torch.testing.assert_close(augment(x), a)


def test_each_process_changes_its_rows_of_both_sizes_as_one_would() -> None:
    augment, x, y = Augment(), _smooth(12, 32), _smooth(12, 48)

    def drawn(index: int, count: int) -> tuple[Tensor, Tensor]:
        with seeded_step(index, count, 5):
            return augment.both(x[index::count], y[index::count])

    whole = drawn(0, 1)
    for index in range(3):
        for part, every in zip(drawn(index, 3), whole, strict=True):
            torch.testing.assert_close(part, every[index::3])
