"""A CSV with an image folder: which table, which delimiter, which columns, which folder."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from medtex_edge.errors import DataError
from medtex_edge.image.photo import SUFFIXES
from medtex_edge.train.data.problems import Problem
from medtex_edge.train.data.table import SPLIT_NAMES, Table, TableRow, file_table

if TYPE_CHECKING:
    from medtex_edge.train.data.dataset import DataOptions

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Sheet:
    """A table of texts: `lines` holds (line number in the file, cells) without the header and blank lines."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]

    def values(self, column: str) -> list[str]:
        index = self.columns.index(column)
        return [cells[index] for _, cells in self.lines if index < len(cells)]


def read_sheet(path: Path) -> Sheet:
    """Read with the delimiter that cuts header and lines alike; tolerate BOMs, quotes and Excel's "sep=;".

    Raises `DataError` where it cannot be read or is no table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        # Excel's "Unicode text" is UTF-16 with its mark; everything else ought to be UTF-8.
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start})", hint="save it as UTF-8 CSV") from None
    first, _, rest = text.partition("\n")
    told = first.strip().casefold()
    skipped = 0
    if told.startswith("sep=") and len(told) == 5:
        text, skipped = rest, 1
    tables = [table for mark in _DELIMITERS if (table := _parse(text, mark, path, skipped)) is not None]
    if not tables:
        raise DataError(f"{path}: the table is empty", hint="the first line names the columns")
    # max keeps the first of equals: a table of one column has no delimiter, and any will do.
    return max(tables, key=_fit)


def _parse(text: str, delimiter: str, path: Path, skipped: int) -> Sheet | None:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines: list[tuple[int, tuple[str, ...]]] = []
    try:
        for cells in reader:
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                lines.append((reader.line_num + skipped, stripped))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num + skipped} is no CSV: {error}") from None
    return Sheet(path, lines[0][1], tuple(lines[1:])) if lines else None


def _fit(sheet: Sheet) -> tuple[float, int]:
    width = len(sheet.columns)
    alike = sum(len(cells) == width for _, cells in sheet.lines)
    return (alike / max(1, len(sheet.lines)) if width > 1 else 0.0, width)


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
    """Say which columns are wanted, which are there, and which might be meant."""
    # The table nearest to what is wanted: one line per photograph, with the most wanted columns.
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


def speaks_of_photographs(sheet: Sheet, options: DataOptions) -> bool:
    """Whether a table that lacks a wanted column was nevertheless meant to be the dataset's."""
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
    """Whether a path in a table leads out of its folder, by the rules of either family of systems."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root) or ".." in windows.parts or name.startswith("~") or "\0" in name


def _image_folder(base: Path, names: list[str], told: str) -> Path:
    """Where the photographs are: as told, or the place below the table where most of them are found."""
    if told:
        for folder in (base / told, Path(told)):
            if folder.is_dir():
                return folder
        raise DataError(f"{base / told}: no such folder", hint="--image-folder is seen from the table's folder")
    try:
        below = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{base}: cannot be read: {error.strerror or error}") from error
    # images/ first: a masks/ folder may hold files of the same names.
    places = [base, *sorted(below, key=lambda path: path.name.casefold() not in ("images", "image", "photos"))]
    some = [name for name in names[:200] if name and not escapes(name)]
    return max(places, key=lambda folder: sum(_find(folder, name) is not None for name in some))


def _find(folder: Path, name: str) -> str | None:
    """`name` as it is found below `folder`: as written, with backslashes turned, or with an image's suffix."""
    for form in (name, name.replace("\\", "/")):
        if os.path.isfile(folder / form):  # noqa: PTH113 - Path.is_file raises where a name is too long
            return form
        if PurePosixPath(form).suffix.lower() not in SUFFIXES:
            for suffix in sorted(SUFFIXES):
                if os.path.isfile(folder / (form + suffix)):  # noqa: PTH113
                    return form + suffix
    return None


def _locate(root: Path, folders: tuple[Path, ...], name: str) -> str:
    """The key of a photograph: from the first of `folders` that has it, or as it would be in the first."""
    for folder in folders:
        # Where the folder was told and lies elsewhere, the table's own folder is out of reach.
        if (folder == root or root in folder.parents) and (found := _find(folder, name)):
            return (folder / found).relative_to(root).as_posix()
    return (folders[0] / name).relative_to(root).as_posix()
