"""The cache of cropped photographs: one memory-mapped uint8 array per split and size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import GEOMETRY
from medtex_edge.errors import StorageError
from medtex_edge.files import atomic_write, sha256, storage, write_json
from medtex_edge.image.geometry import crop_resize
from medtex_edge.image.photo import Image
from medtex_edge.progress import Progress, counting
from medtex_edge.train.compute.device import in_order
from medtex_edge.train.data.dataset import Dataset, Sample


@dataclass(frozen=True)
class Photos:
    """The input of a model: images (N, S, S, 3) uint8 RGB, labels (N,) int64 (-1: unlabelled), N keys.

    teacher_images: the same photographs at the size of the teacher, (N, T, T, 3) uint8; None: as `images`.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    keys: tuple[str, ...]
    teacher_images: npt.NDArray[np.uint8] | None = None

    def first(self, count: int) -> Photos:
        """The first `count` photographs, or all of them where there are fewer."""
        large = None if self.teacher_images is None else self.teacher_images[:count]
        return Photos(self.images[:count], self.labels[:count], self.keys[:count], large)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Photos:
        """The photographs for which `chosen` (N,) is true."""
        large = None if self.teacher_images is None else self.teacher_images[chosen]
        keys = tuple(key for key, one in zip(self.keys, chosen, strict=True) if one)
        return Photos(self.images[chosen], self.labels[chosen], keys, large)


def load_photos(dataset: Dataset, split: str, size: int, *, cache: Path, progress: Progress = None) -> Photos:
    """The photographs of a split at `size` pixels a side, read-only; decoded only where `cache` does not hold them.

    The cache is keyed by the dataset's fingerprint, the split, the size and the geometry's version, and checked by
    its checksum; a damaged one is built again. Raises `StorageError` where it cannot be written (no part of it
    remains), and `DataError` where a photograph changed since the dataset was checked.
    """
    samples = dataset.of(split)
    labels = np.array([sample.label for sample in samples], np.int64)
    keys = tuple(sample.key for sample in samples)
    shape = (len(samples), size, size, 3)
    if not samples:
        return Photos(np.empty(shape, np.uint8), labels, keys)
    content = f"{dataset.fingerprint} {split} {size} {GEOMETRY}"
    path = Path(cache) / f"{split}-{size}-{hashlib.sha256(content.encode()).hexdigest()[:20]}.npy"
    images = _open(path, shape)
    if images is None:
        _build(path, dataset, samples, size, progress)
        images = _open(path, shape)
    if images is None:
        raise StorageError(f"{path}: does not hold what was written", hint="check the disk")
    return Photos(images, labels, keys)


def _open(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    """Map a cache file, or None where it is absent, of another shape, or damaged."""
    try:
        recorded = json.loads(_checksum_path(path).read_text("utf-8"))
        if recorded != {"sha256": sha256(path)}:
            return None
        images: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _build(path: Path, dataset: Dataset, samples: tuple[Sample, ...], size: int, progress: Progress) -> None:
    with suppress(OSError):
        _checksum_path(path).unlink(missing_ok=True)
    with storage(path.parent, "make"):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Written in order, not through a memory map: on a full disk a map ends in SIGBUS, a write in an error.
    with counting(progress, "cropping photographs", len(samples)) as advance, atomic_write(path) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(samples), size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for image in crop_all(dataset, samples, size):
            file.write(image.data)
            advance()
    write_json(_checksum_path(path), {"sha256": sha256(path)})


def crop_all(dataset: Dataset, samples: tuple[Sample, ...], size: int) -> Iterator[Image]:
    """(S, S, 3) uint8 RGB of each sample, in order."""

    def crop(sample: Sample) -> Image:
        image = dataset.read(sample)
        return crop_resize(image, dataset.box(image), size, size)

    return in_order(crop, samples)


def _checksum_path(path: Path) -> Path:
    return path.with_suffix(".json")
