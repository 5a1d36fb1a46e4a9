"""A CSV or TSV file as a header and lines of cells, whatever its delimiter and encoding."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from medtex_edge.errors import DataError

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
    """Read with the delimiter that gives header and lines the same length.

    A byte order mark, quotes and Excel's "sep=;" are allowed. Raises `DataError` where it cannot be read or is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        # Excel's "Unicode text" is UTF-16 with a byte order mark; everything else should be UTF-8.
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start})", hint="save it as UTF-8 CSV") from None
    first, _, rest = text.partition("\n")
    setting = first.strip().casefold()
    skipped = 0
    if setting.startswith("sep=") and len(setting) == 5:
        text, skipped = rest, 1
    tables = [table for delimiter in _DELIMITERS if (table := _parse(text, delimiter, path, skipped)) is not None]
    if not tables:
        raise DataError(f"{path}: the table is empty", hint="the first line names the columns")
    # max keeps the first of equals. A table of one column has no delimiter, so any is right.
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
