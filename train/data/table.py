"""What every form of dataset is read into: rows of text, and a way to the photographs."""

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
    """One photograph as its table or folder speaks of it; empty texts where nothing is said."""

    key: str  # path relative to the table's root, with slashes; "train/12" in an npz
    where: str  # for messages: "labels.csv line 7"
    label: str = ""
    split: str = ""  # a value of SPLIT_NAMES, or ""
    patient: str = ""
    mask: str = ""


@dataclass(frozen=True)
class Table:
    """A dataset as found, nothing judged yet.

    `read(key)` gives (H, W, 3) uint8 RGB; `examine(key)` the content's SHA-256 after proving that a model could
    be shown it. Both raise `ImageError`, `examine` also `NoFieldOfView`.
    """

    root: Path
    form: str
    rows: tuple[TableRow, ...]
    read: Callable[[str], Image]
    examine: Callable[[str], str]
    class_names: tuple[str, ...] = ()  # fixed by folders; else the labels say
    ordered: bool = False  # of class_names
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def frame_of(form: str, image: Image) -> FieldOfView:
    """The square that a model sees of (H, W, 3). Raises `NoFieldOfView`.

    MedMNIST's thumbnails are cropped already: the whole of one is its field of view.
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
        frame_of(form, decode_photo(data, key))
        return hashlib.sha256(data).hexdigest()

    return Table(root, form, tuple(rows), read, examine, **more)  # type: ignore[arg-type]
