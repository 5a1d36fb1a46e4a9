"""Read a dataset in any of its forms into a `Table`: a CSV with an image folder, a folder per class, or an npz.

`read_table` finds out which form it is; then follow the readers of the three forms.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import DataError
from medtex_edge.image.photo import SUFFIXES, Image
from medtex_edge.train.data.problems import Problem
from medtex_edge.train.data.sheet import Sheet, read_sheet
from medtex_edge.train.data.table import SPLIT_NAMES, Table, TableRow, file_table

if TYPE_CHECKING:
    from medtex_edge.train.data.dataset import DataOptions

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
# The errors of numpy and zipfile for a damaged or malicious archive.
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
    if any(lists_photographs(sheet, options) for sheet in sheets):
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
        return f"{photographs} photographs and no labels"
    return f"it holds {', '.join(path.name for path in entries[:5])}{' ...' if len(entries) > 5 else ''}"


def choose_sheet(folder: Path, sheets: list[Sheet], options: DataOptions) -> Sheet:
    """The one table that has the wanted columns. Raises `DataError` where none or several have them."""
    wanted = (options.image_column, options.label_column)
    fitting = [sheet for sheet in sheets if all(column in sheet.columns for column in wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(sheet.path.name for sheet in fitting)
        raise DataError(
            f"{folder}: several tables have the columns {' and '.join(wanted)}: {names}",
            hint=f"name the one to use: --data {fitting[0].path}",
        )
    raise missing_columns(sheets, options)


def missing_columns(sheets: list[Sheet], options: DataOptions) -> DataError:
    """The error that names the missing columns, the present ones, and those that may be meant."""
    # The best candidate has one line per photograph and the most wanted columns.
    wanted = {"--image-column": options.image_column, "--label-column": options.label_column}
    best = max(
        sheets, key=lambda sheet: sum(column in sheet.columns for column in wanted.values()) + _one_each(sheet, options)
    )
    absent = {flag: column for flag, column in wanted.items() if column not in best.columns}
    there = "; ".join(f"{sheet.path.name} has {', '.join(filter(None, sheet.columns))}" for sheet in sheets)
    hints = []
    for flag, column in absent.items():
        nearest = get_close_matches(column, best.columns, n=1, cutoff=0.6)
        candidates = nearest or (label_candidates(best, options) if flag == "--label-column" else name_candidates(best))
        if candidates:
            hints.append(f"{flag} {' or '.join(candidates)}")
    names = " and ".join(repr(column) for column in absent.values())
    return DataError(
        f"{best.path}: there is no column {names}; {there}",
        hint=f"perhaps {', '.join(hints)}" if hints else f"name the columns: {', '.join(absent)}",
    )


def label_candidates(sheet: Sheet, options: DataOptions) -> list[str]:
    """Columns that repeat a few values over many lines, as labels do."""
    known = {options.image_column, options.split_column, options.patient_column, ""}
    found = []
    for column in sheet.columns:
        values = set(sheet.values(column)) - {""}
        if column not in known and 2 <= len(values) <= max(2, min(50, len(sheet.lines) // 2)):
            found.append(column)
    return found


def name_candidates(sheet: Sheet) -> list[str]:
    """Columns whose every value is an image's file name."""
    found = []
    for column in filter(None, sheet.columns):
        values = sheet.values(column)
        if values and all(PurePosixPath(value).suffix.lower() in SUFFIXES for value in values):
            found.append(column)
    return found


def lists_photographs(sheet: Sheet, options: DataOptions) -> bool:
    """Whether a table lists photographs, even where it lacks a wanted column."""
    return options.image_column in sheet.columns or bool(name_candidates(sheet))


def _one_each(sheet: Sheet, options: DataOptions) -> float:
    if options.image_column not in sheet.columns:
        return 0.0
    values = sheet.values(options.image_column)
    return 0.5 * (len(set(values)) == len(values))


def read_csv(sheet: Sheet, options: DataOptions) -> Table:
    """The rows of a table that has the wanted columns. Raises `DataError` where an optional one is missing."""
    columns = _columns(sheet, options)
    base = sheet.path.parent
    folder = _image_folder(base, sheet.values(options.image_column), options.image_folder)
    root = base if folder == base or base in folder.parents else folder
    rows, problems = [], []
    for number, cells in sheet.lines:
        where = f"{sheet.path.name} line {number}"
        if len(cells) != len(sheet.columns):
            problems.append(Problem("", f"{where}: {len(cells)} cells, expected {len(sheet.columns)}"))
            continue
        cell = {role: cells[index] for role, index in columns.items()}
        split = SPLIT_NAMES.get(cell.get("split", "").casefold(), "")
        if cell.get("split") and not split:
            problems.append(Problem("", f"{where}: split {cell['split']!r}, expected train, val or test"))
        name, mask = cell["image"], cell.get("mask", "")
        if escaping := [text for text in (name, mask) if escapes(text)]:
            problems.append(Problem("", f"{where}: {escaping[0]!r} leads out of the image folder"))
            continue
        if not name:
            problems.append(Problem("", f"{where}: no name of a photograph"))
            continue
        key = _locate(root, (folder, base), name)
        mask_key = _locate(root, (folder, base), mask) if mask else ""
        rows.append(TableRow(key, where, cell["label"], split, cell.get("patient", ""), mask_key))
    return file_table(root, "csv", rows, problems=tuple(problems))


def _columns(sheet: Sheet, options: DataOptions) -> dict[str, int]:
    """role -> index of its column. Optional columns may be absent only under their default names."""
    roles = {
        "image": (options.image_column, True),
        "label": (options.label_column, True),
        "split": (options.split_column, options.split_column not in ("", "split")),
        "patient": (options.patient_column, options.patient_column not in ("", "patient")),
        "mask": (options.mask_column, options.mask_column != ""),
    }
    columns = {}
    for role, (name, needed) in roles.items():
        count = sheet.columns.count(name) if name else 0
        if count > 1:
            raise DataError(f"{sheet.path}: {count} columns are called {name!r}, expected one")
        if count == 0 and needed:
            if role in ("image", "label"):
                raise missing_columns([sheet], options)
            nearest = get_close_matches(name, sheet.columns, n=1, cutoff=0.0)
            raise DataError(
                f"{sheet.path}: there is no column {name!r}; it has {', '.join(filter(None, sheet.columns))}",
                hint=f"perhaps --{role}-column {nearest[0]}" if nearest else "",
            )
        if count:
            columns[role] = sheet.columns.index(name)
    return columns


def escapes(name: str) -> bool:
    """Whether a path in a table leads out of its folder, by the rules of POSIX or Windows."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root) or ".." in windows.parts or name.startswith("~") or "\0" in name


def _image_folder(base: Path, names: list[str], given: str) -> Path:
    """The folder of the photographs: the given one, or the one at or below the table with most of them."""
    if given:
        for folder in (base / given, Path(given)):
            if folder.is_dir():
                return folder
        raise DataError(f"{base / given}: no such folder", hint="--image-folder is relative to the folder of the table")
    try:
        below = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{base}: cannot be read: {error.strerror or error}") from error
    # images/ comes first, since masks/ may hold files of the same names.
    places = [base, *sorted(below, key=lambda path: path.name.casefold() not in ("images", "image", "photos"))]
    some = [name for name in names[:200] if name and not escapes(name)]
    return max(places, key=lambda folder: sum(_find(folder, name) is not None for name in some))


def _find(folder: Path, name: str) -> str | None:
    """The spelling of `name` that exists below `folder`: as written, with slashes, or with an image's suffix."""
    for form in (name, name.replace("\\", "/")):
        if os.path.isfile(folder / form):  # noqa: PTH113 - Path.is_file raises where a name is too long
            return form
        if PurePosixPath(form).suffix.lower() not in SUFFIXES:
            for suffix in sorted(SUFFIXES):
                if os.path.isfile(folder / (form + suffix)):  # noqa: PTH113
                    return form + suffix
    return None


def _locate(root: Path, folders: tuple[Path, ...], name: str) -> str:
    """The key of a photograph in the first of `folders` that has it, or else in the first folder."""
    for folder in folders:
        # A given folder may lie elsewhere; keys cannot lead from it to the folder of the table.
        if (folder == root or root in folder.parents) and (found := _find(folder, name)):
            return (folder / found).relative_to(root).as_posix()
    return (folders[0] / name).relative_to(root).as_posix()


def read_folders(root: Path) -> Table | None:
    """A folder per class, perhaps under train/, val/ and test/; None where the folders are not that."""
    splits = {path: SPLIT_NAMES[path.name.casefold()] for path in _folders(root) if path.name.casefold() in SPLIT_NAMES}
    places = splits or {root: ""}
    found: dict[Path, list[Path]] = {}
    others = 0
    for place in places:
        for folder in _folders(place):
            if any(below.name.casefold() in _NOT_CLASSES for below in _folders(folder)):
                return None  # the folder holds datasets, not classes
            found[folder], strange = _photographs(folder)
            others += strange
    names = {folder.name for folder in found}
    # A single folder is no set of classes; most likely it holds the images of a table that is missing.
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
    # Archives from a Mac hold a shadow copy of every file.
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
