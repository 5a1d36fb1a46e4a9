"""Batches of photographs: threads copy the next ones out of the memory map during a training step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtex_edge.train.compute.device import Compute, in_order
from medtex_edge.train.compute.processes import ALONE, Group
from medtex_edge.train.data.cache import Photos


@dataclass(frozen=True)
class Batch:
    """images (N, 3, S, S) float in 0..1 on the device; labels (N,), -1: none; progress of the phase, 0..1.

    teacher_images: the same photographs at the size of the teacher, (N, 3, T, T); None: as `images`.
    """

    images: Tensor
    labels: Tensor
    progress: float = 1.0
    teacher_images: Tensor | None = None

    @property
    def for_teacher(self) -> Tensor:
        """The input of the teacher: its own crop of the photographs, where there is one."""
        return self.images if self.teacher_images is None else self.teacher_images


def batches(
    photos: Photos, size: int, compute: Compute, *, order: np.random.Generator | None = None, among: Group = ALONE
) -> Iterator[Batch]:
    """Yield batches of `size` photographs; the next ones are read during the use of this one.

    `order` shuffles the photographs and drops a last batch of one, since batch norm needs two. Each of several
    processes gets every count-th photograph of a batch; of the last batch the remainder of that division is dropped.
    """
    count = len(photos.images)
    index = np.arange(count) if order is None else order.permutation(count)
    chosen = [index[start : start + size] for start in range(0, count, size)]
    if order is not None and count:
        last = chosen[-1][: len(chosen[-1]) // among.count * among.count]
        chosen[-1:] = [last] if len(last) > 1 or count == 1 else []
    pinned = compute.device.type == "cuda"
    mine = (part[among.index :: among.count] for part in chosen)
    for images, teacher_images, labels in in_order(partial(_read, photos, pinned), mine, threads=2, ahead=4):
        larger = None if teacher_images is None else _floats(teacher_images, compute.device)
        yield Batch(
            _floats(images, compute.device), labels.to(compute.device, non_blocking=True), teacher_images=larger
        )


def _floats(images: Tensor, device: torch.device) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) float in 0..1 on the device."""
    x = images.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
    return x.contiguous(memory_format=torch.channels_last)


def _read(photos: Photos, pinned: bool, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor | None, Tensor]:
    """Copy rows of the memory-mapped photographs: images, teacher images, labels. `pinned` is for training on a GPU."""
    labels = torch.from_numpy(photos.labels[chosen])
    teacher_images = None if photos.teacher_images is None else _rows(photos.teacher_images, pinned, chosen)
    return _rows(photos.images, pinned, chosen), teacher_images, labels.pin_memory() if pinned else labels


def _rows(source: npt.NDArray[np.uint8], pinned: bool, chosen: npt.NDArray[np.int64]) -> Tensor:
    images = torch.empty((len(chosen), *source.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
    # Unlike indexing, `take` releases the interpreter lock; only in this mode it writes without a buffer.
    np.take(source, chosen, axis=0, out=images.numpy(), mode="clip")
    return images
