"""The first steps of every training: photographs, splits, referable classes, run folder, seeds and provenance."""

from __future__ import annotations

import platform
import random
import re
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
    referable: str | tuple[int, ...] = ""  # names or `N+`, or the indices of a run; "": see `referable_classes`


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


def referable_classes(classes: tuple[str, ...], ordered: bool, wanted: str | tuple[int, ...]) -> tuple[int, ...]:
    """Indices of the referable classes, ascending; some of them, never all.

    Grades have a default: grade 2 and above as for diabetic retinopathy where they count from 0, the second of two.
    Classes that are only names have none: their order is that of the alphabet, and says nothing about disease.
    `wanted` is a list of names, comma-separated, or `N+`, the grade N and above; a tuple is indices already, as a
    run's card holds them. A number means the grade of that number, never a place in the list.

    Raises `SettingsError` where nothing tells which classes mean disease, and for a name that no class has.
    """
    if isinstance(wanted, tuple):
        chosen = tuple(sorted(set(wanted)))
        if not all(0 <= index < len(classes) for index in chosen):
            raise SettingsError(f"referable: expected indices of {len(classes)} classes, got {chosen}")
    elif not wanted.strip():
        chosen = _default_grades(classes, ordered)
    elif match := re.fullmatch(r"(\d+)\s*\+", wanted.strip()):
        chosen = _from_grade(classes, ordered, int(match[1]))
    else:
        chosen = tuple(sorted({_class_index(classes, ordered, item) for item in _names(classes, wanted)}))
    if not 0 < len(chosen) < len(classes):
        raise SettingsError(
            f"referable: expected some, not all, of {', '.join(classes)}; "
            f"{wanted!r} names {len(chosen)} of {len(classes)}"
        )
    return chosen


def _grades(classes: tuple[str, ...], ordered: bool) -> tuple[int, ...] | None:
    """The grade that each class name begins with ("3", "3_severe"); None where the classes are no grades."""
    matches = [re.match(r"\d+", name) for name in classes]
    if not ordered or not all(matches):
        return None
    return tuple(int(match[0]) for match in matches if match)


def _default_grades(classes: tuple[str, ...], ordered: bool) -> tuple[int, ...]:
    grades, count = _grades(classes, ordered), len(classes)
    if not ordered:
        names = ", ".join(classes)
        which = f"does {classes[0]} or {classes[1]} mean disease?" if count == 2 else "which of them mean disease?"
        # The hint names no class: whoever is in a hurry copies it.
        raise SettingsError(
            f"referable: the classes {names} are names without an order; {which}",
            hint="answer by --referable CLASS" + ("" if count == 2 else ", several separated by commas"),
        )
    if grades is not None and grades[0] != 0:
        raise SettingsError(
            f"referable: the grades {', '.join(classes)} do not count from 0; which is the lowest referable one?",
            hint="answer by --referable N+",
        )
    first = 2 if count > 2 else 1
    return (
        tuple(range(first, count)) if grades is None else tuple(i for i, grade in enumerate(grades) if grade >= first)
    )


def _from_grade(classes: tuple[str, ...], ordered: bool, first: int) -> tuple[int, ...]:
    grades = _grades(classes, ordered)
    if grades is None:
        raise SettingsError(
            f"referable: expected names, since the classes {', '.join(classes)} are no grades; got '{first}+'",
            hint="name the referable classes, separated by commas",
        )
    if first not in grades:
        raise SettingsError(
            f"referable: expected one of the grades {', '.join(map(str, grades))}, got '{first}+'",
            hint=f"the classes are {', '.join(classes)}",
        )
    return tuple(index for index, grade in enumerate(grades) if grade >= first)


def _names(classes: tuple[str, ...], wanted: str) -> list[str]:
    # A class name may hold a comma: then it is named alone.
    return [wanted] if wanted in classes else [part.strip() for part in wanted.split(",")]


def _class_index(classes: tuple[str, ...], ordered: bool, item: str) -> int:
    if item in classes:
        return classes.index(item)
    alike = [index for index, name in enumerate(classes) if name.casefold() == item.casefold()]
    if len(alike) == 1:
        return alike[0]
    grades = _grades(classes, ordered)
    if grades is not None and item.isdecimal() and int(item) in grades:
        return grades.index(int(item))
    raise SettingsError(f"referable: there is no class {item!r}", hint=f"the classes are {', '.join(classes)}")


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
