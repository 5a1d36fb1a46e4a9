"""Random numbers of a batch that several processes share: each draws for all photographs and keeps its own rows.

So a photograph's augmentation and masks depend on the seed, the step and its place in the whole batch, and not on
how many processes train. A batch's photograph at place i belongs to process i mod count: the first half of every
slice is then the first half of the batch, and so for any part. Outside of a training step these functions draw from
PyTorch's global generator, as anything else does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class RankSlice:
    """Rows index, index + count, index + 2 count ... of a batch; `drawn` numbers the draws of a step."""

    index: int = 0
    count: int = 1
    seed: int = 0
    drawn: int = 0

    def of(self, rows: Tensor) -> Tensor:
        """This process's rows of (N * count, ...)."""
        return rows[self.index :: self.count]


_share: ContextVar[RankSlice | None] = ContextVar("share", default=None)


@contextmanager
def step(index: int, count: int, *seed: int) -> Iterator[None]:
    """One training step of process `index` of `count`. What draws without `rows` or `common` differs by process."""
    token = _share.set(RankSlice(index, count, _hash(*seed)))
    torch.manual_seed(_hash(*seed, index))
    try:
        yield
    finally:
        _share.reset(token)


@contextmanager
def common(device: torch.device | None = None) -> Iterator[RankSlice | None]:
    """Inside a step: a generator that is the same in all processes, on the CPU and on `device`; else as it was."""
    share = _share.get()
    if share is None:
        yield None
        return
    share.drawn += 1
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_hash(share.seed, share.drawn))
        yield share


def rows(count: int, draw: Callable[[int], Tensor], device: torch.device | None = None) -> Tensor:
    """`draw(n)` gives n independent random rows (n, ...); returns this process's `count` of one draw for all."""
    with common(device) as share:
        return draw(count) if share is None else share.of(draw(count * share.count))


def last(fraction: float, count: int) -> int:
    """How many of this process's `count` photographs are among the last `fraction` of the whole batch."""
    share = _share.get() or RankSlice()
    total = count * share.count
    first = total - round(fraction * total)
    return sum(place >= first for place in range(share.index, total, share.count))


def _hash(*numbers: int) -> int:
    return zlib.crc32(repr(numbers).encode())
