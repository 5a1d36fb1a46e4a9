"""Photographs and their labels, as one `Dataset`, whatever form they came in.

There are three forms (see `readers`): a CSV with an image folder, a folder per class, and MedMNIST's `.npz`. All
problems of a dataset are collected and reported in ONE error (see `checks`), since correcting photographs one error at
a time costs a user an afternoon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from medtex_edge.errors import DataError, SettingsError
from medtex_edge.image.geometry import FieldOfView
from medtex_edge.image.photo import Image
from medtex_edge.progress import Progress
from medtex_edge.train.data.checks import (
    check_classes,
    check_contents,
    check_copies,
    check_enough,
    check_files,
    check_labels,
    check_listing,
    check_patients,
)
from medtex_edge.train.data.problems import ACCEPTABLE, Problems
from medtex_edge.train.data.readers import read_table
from medtex_edge.train.data.split import SPLITS, Splits, draw_splits
from medtex_edge.train.data.table import field_of_view


@dataclass(frozen=True)
class DataOptions:
    """How to read a dataset. The columns are those of a CSV; the defaults are the most common names."""

    image_column: str = "image"
    label_column: str = "label"
    split_column: str = "split"  # optional under this default name, required under another
    patient_column: str = "patient"  # optional likewise
    mask_column: str = ""  # one lesion mask per photograph; none unless named
    image_folder: str = ""  # "": found, in the folder of the CSV or below it
    val_fraction: float = 0.2  # of the train split, where no val split is given
    accept: frozenset[str] = frozenset()  # names of ACCEPTABLE problems that are no errors

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise SettingsError(f"val_fraction: expected more than 0 and less than 1, got {self.val_fraction:g}")
        if unknown := sorted(self.accept - set(ACCEPTABLE)):
            raise SettingsError(
                f"accept: there is no {', '.join(map(repr, unknown))}", hint=f"choose from {', '.join(ACCEPTABLE)}"
            )


@dataclass(frozen=True)
class Sample:
    """One photograph. `key` is its path relative to the dataset's root, or "train/12" in an npz."""

    key: str
    label: int  # index of its class; -1: unlabelled, which serves distillation only
    split: str  # one of SPLITS
    patient: str | None = None
    mask: str | None = None  # path relative to the root


@dataclass(frozen=True)
class Dataset:
    """Checked photographs with their splits. `notes` lists what was drawn or accepted, to be printed."""

    root: Path
    form: str  # "csv" | "folders" | "npz"
    classes: tuple[str, ...]
    ordered: bool  # whether the classes are grades 0 < 1 < ...
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    contents: tuple[str, ...] = field(repr=False)  # SHA-256 of each sample's file or pixels, in order
    _read: Callable[[str], Image] = field(repr=False, compare=False)
    val_drawn: bool = False  # whether val was drawn by a seed, since the data gives no val split

    def of(self, split: str) -> tuple[Sample, ...]:
        """The samples of "train", "val" or "test", in the dataset's order."""
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        return tuple(sample for sample in self.samples if sample.split == split)

    @property
    def splits(self) -> Splits:
        """The keys of each split, in the dataset's order."""
        return Splits(**{split: tuple(sample.key for sample in self.of(split)) for split in SPLITS})

    def with_splits(self, splits: Splits) -> Dataset:
        """The photographs of `splits`, each in its split there; all others are left out.

        Raises `DataError` where one of them is not in the dataset.
        """
        place = dict(splits)
        present = {sample.key for sample in self.samples}
        if missing := [key for key in place if key not in present]:
            raise DataError(
                f"{self.root}: {len(missing)} of the {len(place)} photographs that the run was trained or validated on "
                f"are not there; the first: {missing[0]} ({place[missing[0]]})",
                hint="restore their names and folder, or name the folder where they are: --data DIR",
            )
        chosen = [index for index, sample in enumerate(self.samples) if sample.key in place]
        return replace(
            self,
            samples=tuple(replace(self.samples[index], split=place[self.samples[index].key]) for index in chosen),
            contents=tuple(self.contents[index] for index in chosen),
            val_drawn=False,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over keys, labels, splits and contents: equal datasets, equal fingerprints."""
        digest = hashlib.sha256()
        for sample, content in zip(self.samples, self.contents, strict=True):
            digest.update(f"{sample.key}\0{sample.label}\0{sample.split}\0{content}\n".encode())
        return digest.hexdigest()

    def read(self, sample: Sample) -> Image:
        """(H, W, 3) uint8 RGB, the whole photograph. Raises `ImageError`."""
        return self._read(sample.key)

    def box(self, image: Image) -> FieldOfView:
        """The square of `image` (H, W, 3) uint8 that is the input of a model. Raises `NoFieldOfView`."""
        return field_of_view(self.form, image)


def load_dataset(data: Path, *, options: DataOptions, seed: int = 0, progress: Progress = None) -> Dataset:
    """Find, read and check the photographs of a new training, and draw a val split where none is given.

    Equal data, options and seed give equal datasets. Raises `DataError` that names the problems one by one, and the
    options that accept the acceptable ones.
    """
    return _load(Path(data), options, seed, progress)


def read_dataset(data: Path, *, options: DataOptions, progress: Progress = None) -> Dataset:
    """Read and check the photographs without drawing a split; a photograph whose split is not given counts as train.

    The dataset may lack the classes and splits that only training needs. Raises `DataError` as `load_dataset` does.
    """
    return _load(Path(data), options, None, progress)


def _load(data: Path, options: DataOptions, seed: int | None, progress: Progress) -> Dataset:
    table = read_table(data, options)
    problems = Problems(str(data), options.accept)
    problems.extend(table.problems)
    classes, ordered, listed = check_labels(check_listing(table, problems), table, problems)
    labelled = check_files(listed, table, problems)
    contents = check_contents(labelled, table, problems, progress)
    labelled = [(row, label) for row, label in labelled if row.key in contents]
    splits, notes = {row.key: row.split or "train" for row, _ in labelled}, list[str]()
    drawn = seed is not None and "val" not in splits.values()
    if seed is not None and drawn:
        splits, notes = draw_splits(labelled, contents, options.val_fraction, seed)
    labelled = [(row, label) for row, label in labelled if row.key in splits]
    check_patients(labelled, splits, problems)
    labelled = check_copies(labelled, splits, contents, problems)
    if seed is not None:
        # A class must not seem rare because its photographs have other problems.
        check_classes(listed if problems.blocking else labelled, splits, classes, problems)
        if not problems.blocking:
            check_enough(labelled, splits, problems)
    problems.raise_if_any()
    samples = tuple(
        Sample(row.key, label, splits[row.key], row.patient or None, row.mask or None) for row, label in labelled
    )
    return Dataset(
        table.root, table.form, classes, ordered, samples, (*table.notes, *notes, *problems.notes),
        tuple(contents[sample.key] for sample in samples), table.read, drawn,
    )  # fmt: skip
