"""Find out by looking which form a dataset has, and read it: a CSV, a folder per class, or an npz."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import DataError
from medtex_edge.image.photo import SUFFIXES, Image
from medtex_edge.train.data.csv_table import TABLE_SUFFIXES, choose_sheet, read_csv, read_sheet, speaks_of_photographs
from medtex_edge.train.data.table import SPLIT_NAMES, Table, TableRow, file_table

if TYPE_CHECKING:
    from medtex_edge.train.data.dataset import DataOptions

# What numpy and zipfile raise for an archive that is damaged or lies, depending on which byte it is.
_ARCHIVE_ERRORS = (
    ValueError, EOFError, KeyError, TypeError, AttributeError, MemoryError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_NOT_CLASSES = frozenset({"images", "image", "photos", "masks", "labels"})
_NUMBERED = re.compile(r"(\d+)(?:$|[ _.-])")  # "2", "2_moderate", "2 - moderate"


def read_table(data: Path, options: DataOptions) -> Table:
    """Read `data`, a folder or the CSV or npz file itself. Raises `DataError` where it is no dataset."""
    if data.is_file():
        if data.suffix.lower() == ".npz":
            return read_npz(data)
        if data.suffix.lower() in TABLE_SUFFIXES:
            return read_csv(choose_sheet(data.parent, [read_sheet(data)], options), options)
        raise DataError(f"{data}: expected a folder, a .csv, .tsv or .npz file, got {data.suffix or 'another file'}")
    if not data.is_dir():
        raise DataError(f"{data}: there is no such folder or file", hint="check --data")
    try:
        entries = sorted(path for path in data.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{data}: cannot be read: {error.strerror or error}") from error
    sheets = [read_sheet(path) for path in entries if path.suffix.lower() in TABLE_SUFFIXES and path.is_file()]
    if any(speaks_of_photographs(sheet, options) for sheet in sheets):
        return read_csv(choose_sheet(data, sheets, options), options)
    if (table := read_folders(data)) is not None:
        return table
    archives = [path for path in entries if path.suffix.lower() == ".npz" and path.is_file()]
    if len(archives) == 1:
        return read_npz(archives[0])
    if archives:
        names = ", ".join(path.name for path in archives)
        raise DataError(f"{data}: several npz files: {names}", hint=f"name the one to use: --data {archives[0]}")
    if sheets:
        return read_csv(choose_sheet(data, sheets, options), options)
    raise DataError(
        f"{data}: no dataset: {_found(entries)}; expected a CSV with an image folder, "
        "a folder per class (also under train/, val/, test/), or a MedMNIST .npz",
        hint="put the photographs of each class into a folder of its name, or write a CSV: image,label",
    )


def _found(entries: list[Path]) -> str:
    if not entries:
        return "the folder is empty"
    photographs = sum(path.suffix.lower() in SUFFIXES for path in entries)
    if photographs:
        return f"{photographs} photographs and nothing that says their labels"
    return f"it holds {', '.join(path.name for path in entries[:5])}{' ...' if len(entries) > 5 else ''}"


def read_folders(root: Path) -> Table | None:
    """A folder per class, perhaps under train/, val/ and test/; None where the folders are not that."""
    splits = {path: SPLIT_NAMES[path.name.casefold()] for path in _folders(root) if path.name.casefold() in SPLIT_NAMES}
    places = splits or {root: ""}
    found: dict[Path, list[Path]] = {}
    others = 0
    for place in places:
        for folder in _folders(place):
            if any(below.name.casefold() in _NOT_CLASSES for below in _folders(folder)):
                return None  # a folder of datasets, not of classes
            found[folder], strange = _photographs(folder)
            others += strange
    names = {folder.name for folder in found}
    # One folder is no choice of classes: it is most likely the images of a table that is missing.
    if len(names) < 2 or names <= _NOT_CLASSES or not any(found.values()):
        return None
    numbers = {name: match for name in names if (match := _NUMBERED.match(name))}
    numbered = len(numbers) == len(names) == len({int(match[1]) for match in numbers.values()})
    classes = tuple(sorted(names, key=lambda name: int(numbers[name][1]) if numbered else name))
    rows = [
        TableRow(path.relative_to(root).as_posix(), str(path.relative_to(root)), folder.name, places[folder.parent])
        for folder, paths in found.items()
        for path in paths
    ]
    notes = (f"{others} files without an image's suffix are not used",) if others else ()
    return file_table(root, "folders", rows, class_names=classes, ordered=numbered, notes=notes)


def _folders(place: Path) -> list[Path]:
    try:
        entries = sorted(place.iterdir())
    except OSError as error:
        raise DataError(f"{place}: cannot be read: {error.strerror or error}") from error
    # Archives made on a Mac carry a shadow of every file.
    return [path for path in entries if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]


def _photographs(folder: Path) -> tuple[list[Path], int]:
    paths, others = [], 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in SUFFIXES:
                paths.append(Path(place, name))
            else:
                others += 1
    return paths, others


def read_npz(path: Path) -> Table:
    """MedMNIST: {train,val,test}_images (N, H, W[, 3]) uint8, _labels (N, 1) whole numbers. Raises `DataError`."""
    arrays = _load(path)
    images: dict[str, npt.NDArray[np.uint8]] = {}
    rows = []
    for split in ("train", "val", "test"):
        if f"{split}_images" not in arrays and f"{split}_labels" not in arrays:
            continue
        images[split], labels = _pair(path, arrays, split)
        rows += [
            TableRow(f"{split}/{index}", f"{path.name} {split}_labels[{index}]", str(label), split)
            for index, label in enumerate(labels.tolist())
        ]
    if "train" not in images:
        raise DataError(f"{path}: expected train_images and train_labels, got {', '.join(arrays) or 'nothing'}")

    def read(key: str) -> Image:
        split, index = key.split("/")
        pixels = images[split][int(index)]
        return np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)

    def examine(key: str) -> str:
        return hashlib.sha256(read(key).tobytes()).hexdigest()

    return Table(path, "npz", tuple(rows), read, examine)


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _ARCHIVE_ERRORS as error:
        raise DataError(f"{path}: not a whole .npz of plain arrays: {error}") from error


def _pair(
    path: Path, arrays: dict[str, npt.NDArray[Any]], split: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    names = f"{split}_images", f"{split}_labels"
    for name in names:
        if name not in arrays:
            raise DataError(f"{path}: there is no {name}; it holds {', '.join(arrays)}")
    images, labels = (arrays[name] for name in names)
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise DataError(
            f"{path}: {names[0]}: expected (N, H, W) or (N, H, W, 3) uint8, got {images.shape} {images.dtype}"
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise DataError(f"{path}: {names[1]}: {labels.shape[1]} labels per photograph, expected one class")
    labels = labels.reshape(-1)
    if len(labels) != len(images) or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: {names[1]}: expected {len(images)} whole numbers, got {labels.shape} {labels.dtype}")
    return images, labels
