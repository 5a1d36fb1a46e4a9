"""The first steps of every training: photographs, splits, referable classes, run folder, seeds and provenance."""

from __future__ import annotations

import platform
import random
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from medtex_edge.errors import DataError, SettingsError
from medtex_edge.files import storage
from medtex_edge.progress import Progress
from medtex_edge.train.compute.processes import main_first, on_main
from medtex_edge.train.config import TeachConfig, TrainConfig
from medtex_edge.train.data.cache import Photos, load_photos
from medtex_edge.train.data.dataset import DataOptions, Dataset, load_dataset, read_dataset
from medtex_edge.train.data.split import Splits, read_splits, write_splits
from medtex_edge.train.loop.fit import Recipe
from medtex_edge.train.loop.reporter import Reporter

MIN_VAL = 8  # photographs: fewer fix neither a temperature nor a threshold


@dataclass(frozen=True)
class DataSource:
    """Where the photographs come from and which classes count as referable."""

    path: Path
    options: DataOptions
    referable: str = ""  # class names or indices, comma-separated; "": see `referable_classes`


@dataclass(frozen=True)
class TrainingData:
    """Photographs ready to train on."""

    source: DataSource
    dataset: Dataset
    referable: tuple[int, ...]
    train: Photos
    val: Photos


def open_dataset(source: DataSource, seed: int, reporter: Reporter, splits: Splits | None = None) -> Dataset:
    """Find and check the photographs, divided by `splits`, or else by their own or a drawn split.

    Raises `DataError` with every problem named.
    """
    reporter.message(f"reading photographs from {source.path}")
    opened: list[Dataset] = []

    def load(progress: Progress = None) -> Dataset:
        if splits is None:
            return load_dataset(source.path, options=source.options, seed=seed, progress=progress)
        return read_dataset(source.path, options=source.options, progress=progress).with_splits(splits)

    def check() -> str:
        opened.append(load(reporter.display))
        return opened[0].fingerprint

    # The main process reports the problems; the others, perhaps on other machines, must then find the same dataset.
    fingerprint = on_main(check)
    dataset = opened[0] if opened else load()
    if dataset.fingerprint != fingerprint:
        raise DataError(
            f"{source.path} holds other photographs on {platform.node()} than on the main machine",
            hint="every machine of a training needs the same photographs under the same path",
        )
    for note in dataset.notes:
        reporter.message(f"  {note}")
    return dataset


def prepare(
    source: DataSource, dataset: Dataset, size: int, out: Path, reporter: Reporter, *, teacher_size: int | None = None
) -> TrainingData:
    """Crop the photographs to `size` pixels, once, and to `teacher_size` pixels for a teacher of another size.

    Raises `DataError` where there are too few.
    """
    referable = referable_classes(dataset.classes, dataset.ordered, source.referable)
    with main_first():
        train, val = (
            photographs(dataset, split, size, teacher_size, out, reporter.display) for split in ("train", "val")
        )
    labelled = int((val.labels >= 0).sum())
    if len(train.images) < 2 or labelled < MIN_VAL:
        raise DataError(
            f"{source.path}: {len(train.images)} photographs to train on and {labelled} labelled ones to validate on; "
            f"at least 2 and {MIN_VAL} are needed",
            hint="more photographs, or a larger --val-fraction",
        )
    names = ", ".join(dataset.classes[i] for i in referable)
    reporter.message(
        f"  {len(train.images)} to train on, {len(val.images)} to validate on; "
        f"classes {', '.join(dataset.classes)}; referable: {names}"
    )
    return TrainingData(source, dataset, referable, train, val)


def photographs(
    dataset: Dataset, split: str, size: int, teacher_size: int | None, run: Path, progress: Progress = None
) -> Photos:
    """A split at `size` pixels, and at `teacher_size` where that is another size; the cache is next to `run`."""
    photos = load_photos(dataset, split, size, cache=cache_folder(run), progress=progress)
    if teacher_size is None or teacher_size == size:
        return photos
    others = load_photos(dataset, split, teacher_size, cache=cache_folder(run), progress=progress)
    return replace(photos, teacher_images=others.images)


def referable_classes(classes: tuple[str, ...], ordered: bool, wanted: str) -> tuple[int, ...]:
    """Indices of the referable classes.

    Grades: from the second on where there are more than two (grade >= 2, as for diabetic retinopathy), else the last;
    unordered classes: all but the first. `wanted` overrides: names or indices, comma-separated, or `N+` for grades.
    """
    count = len(classes)
    if not wanted:
        first = (2 if count > 2 else 1) if ordered else 1
        return tuple(range(first, count))
    if wanted.endswith("+") and wanted[:-1].isdigit():
        chosen = tuple(range(int(wanted[:-1]), count))
    else:
        indices = []
        for item in (part.strip() for part in wanted.split(",")):
            if item in classes:
                indices.append(classes.index(item))
            elif item.isdigit() and int(item) < count:
                indices.append(int(item))
            else:
                raise SettingsError(
                    f"referable: there is no class {item!r}", hint=f"the classes are {', '.join(classes)}"
                )
        chosen = tuple(sorted(set(indices)))
    if not 0 < len(chosen) < count:
        raise SettingsError(
            f"referable: expected some, not all, of {', '.join(classes)}; {wanted!r} names {len(chosen)} of {count}"
        )
    return chosen


def open_folder(out: Path) -> None:
    """Make the run folder. Raises `SettingsError` where it holds a finished run, which is never overwritten."""
    on_main(lambda: _open_folder(out))


def resumed_splits(out: Path) -> Splits | None:
    """The splits of an unfinished run that resumes from its checkpoint; None where a training begins.

    Raises `DataError` where they are missing or damaged.
    """
    return on_main(lambda: read_splits(out) if (out / "checkpoint.pt").exists() else None)


def record_splits(out: Path, dataset: Dataset) -> None:
    """Write `splits.json` before the first step: from then on that file alone decides what is train, val and test."""
    on_main(lambda: write_splits(out, dataset.splits))


def _open_folder(out: Path) -> None:
    if (out / "model.json").exists():
        raise SettingsError(f"{out} holds a finished run", hint="choose another --out, or delete that folder")
    with storage(out, "make"):
        out.mkdir(parents=True, exist_ok=True)


def next_folder(kind: str, root: Path = Path("runs")) -> Path:
    """runs/KIND-001, or the next number that is free; the same for every process."""
    return on_main(lambda: _next_folder(kind, root))


def _next_folder(kind: str, root: Path) -> Path:
    taken = {path.name for path in root.glob(f"{kind}-*")}
    number = 1
    while f"{kind}-{number:03d}" in taken:
        number += 1
    return root / f"{kind}-{number:03d}"


def cache_folder(out: Path) -> Path:
    """The cache of cropped photographs: next to the runs, so that all runs of the same photographs share it."""
    return out.resolve().parent / ".photographs"


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and PyTorch, so that equal seeds give equal initial weights."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  kornia and timm draw from the global generator in places
    torch.manual_seed(seed)


def recipe_of(config: TrainConfig | TeachConfig) -> Recipe:
    """The settings of the training loop."""
    return Recipe(
        config.batch, config.weight_decay, config.warmup, config.clip, config.ema, config.patience, config.seed
    )


def provenance(device: str) -> dict[str, str]:
    """Versions, machine and time, as `model.json` records them."""
    packages = ("medtex-edge", "torch", "timm", "kornia", "numpy")
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": device,
        **{name: _version(name) for name in packages},
    }


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
