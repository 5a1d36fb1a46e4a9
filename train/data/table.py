"""The common form of all datasets: rows of text, and functions that read the photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medtex_edge.image.geometry import FieldOfView, find_field_of_view
from medtex_edge.image.photo import Image, decode_photo, read_bytes
from medtex_edge.train.data.problems import Problem

SPLIT_NAMES = {
    "train": "train", "training": "train", "tr": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class TableRow:
    """One photograph as its table or folder lists it; a text is empty where the value is missing."""

    key: str  # path relative to the table's root, with slashes; "train/12" in an npz
    where: str  # its origin in messages: "labels.csv line 7"
    label: str = ""
    split: str = ""  # a value of SPLIT_NAMES, or ""
    patient: str = ""
    mask: str = ""


@dataclass(frozen=True)
class Table:
    """A dataset as found, before any check.

    `read(key)` returns (H, W, 3) uint8 RGB; `examine(key)` checks that a model can use the photograph and returns the
    SHA-256 of its content. Both raise `ImageError`, `examine` also `NoFieldOfView`.
    """

    root: Path
    form: str
    rows: tuple[TableRow, ...]
    read: Callable[[str], Image]
    examine: Callable[[str], str]
    class_names: tuple[str, ...] = ()  # the folder names; else () and the labels decide
    ordered: bool = False  # of class_names
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def field_of_view(form: str, image: Image) -> FieldOfView:
    """The square of (H, W, 3) uint8 that is the input of a model. Raises `NoFieldOfView`.

    MedMNIST's thumbnails are cropped already, so that the whole thumbnail is the field of view.
    """
    if form != "npz":
        return find_field_of_view(image)
    height, width = image.shape[:2]
    side = max(height, width)
    return FieldOfView(left=(width - side) // 2, top=(height - side) // 2, side=side, coverage=1.0)


def file_table(root: Path, form: str, rows: list[TableRow], **more: object) -> Table:
    """A `Table` whose photographs are files below `root`."""

    def read(key: str) -> Image:
        return decode_photo(read_bytes(root / key), key)

    def examine(key: str) -> str:
        data = read_bytes(root / key)
        field_of_view(form, decode_photo(data, key))
        return hashlib.sha256(data).hexdigest()

    return Table(root, form, tuple(rows), read, examine, **more)  # type: ignore[arg-type]
