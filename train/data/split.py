"""Which photographs are train, val and test: drawn once for a training, read from its `splits.json` ever after.

Drawing is by patient, stratified by class and seeded. Nothing but a new training draws: whatever comes after it reads
`splits.json`, so that a changed seed, table or option can never move a photograph from train to val.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medtex_edge.errors import DataError
from medtex_edge.files import write_json
from medtex_edge.train.data.table import TableRow

SPLITS = ("train", "val", "test")
SPLITS_FILE = "splits.json"
_RESTORE = "restore the file from a copy of the run, or train again into another folder"


@dataclass(frozen=True)
class Splits:
    """The keys of the photographs of each split, in the dataset's order; no key is in two of them."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(key, split) of every photograph."""
        return ((key, split) for split in SPLITS for key in getattr(self, split))


def write_splits(run: Path, splits: Splits) -> None:
    """Write `splits.json` of a run folder, whole or not at all. Raises `StorageError`."""
    write_json(run / SPLITS_FILE, asdict(splits))


def read_splits(run: Path) -> Splits:
    """Read `splits.json` of a run folder. Raises `DataError` where it is missing or damaged."""
    path = run / SPLITS_FILE
    try:
        table = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: which photographs the run was trained on is not known", hint=_RESTORE
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_RESTORE) from error
    if not isinstance(table, dict) or set(table) != set(SPLITS):
        raise DataError(f"{path} is damaged: expected an object with the keys {', '.join(SPLITS)}", hint=_RESTORE)
    for split, keys in table.items():
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise DataError(f"{path} is damaged: {split}: expected a list of photographs", hint=_RESTORE)
    splits = Splits(**{split: tuple(keys) for split, keys in table.items()})
    counts = Counter(key for key, _ in splits)
    if repeated := [key for key, count in counts.items() if count > 1]:
        raise DataError(f"{path} is damaged: it lists {repeated[0]} {counts[repeated[0]]} times", hint=_RESTORE)
    if not splits.train:
        raise DataError(f"{path} is damaged: it names no photograph to train on", hint=_RESTORE)
    return splits


def draw_splits(
    labelled: list[tuple[TableRow, int]], contents: Mapping[str, str], val_fraction: float, seed: int
) -> tuple[dict[str, str], list[str]]:
    """Draw the splits of a new training -> key -> split, and notes on what was drawn; none where val is given.

    Given splits stay. Where no photograph is in val, `val_fraction` of each class's patients move there from train
    (of the photographs where patients are unknown), at least one and never all; a class that has but one stays
    in train. Exact copies stay together. Equal rows and seed give equal splits, whatever their order.
    """
    splits = {row.key: row.split or "train" for row, _ in labelled}
    if "val" in splits.values():
        return splits, []
    groups = _groups([(row, label) for row, label in labelled if splits[row.key] == "train" and label >= 0], contents)
    strata: dict[int, list[list[str]]] = defaultdict(list)
    for members in groups:
        # The eyes of a patient may differ. The highest grade decides, since the rarest class needs its share most.
        strata[max(label for _, label in members)].append(sorted(row.key for row, _ in members))
    random = np.random.default_rng(seed)
    for label in sorted(strata):
        ordered = sorted(strata[label])
        random.shuffle(ordered)
        count = 0 if len(ordered) < 2 else int(np.clip(round(val_fraction * len(ordered)), 1, len(ordered) - 1))
        for keys in ordered[:count]:
            splits.update(dict.fromkeys(keys, "val"))
    # Unlabelled photographs stay in train, but not those of a patient that is validated on.
    moved = {row.patient for row, _ in labelled if row.patient and splits[row.key] == "val"}
    stay = {row.key for row, label in labelled if label >= 0 or row.patient not in moved}
    splits = {key: split for key, split in splits.items() if key in stay}
    counts = Counter(splits.values())
    by = "patient" if any(row.patient for row, _ in labelled) else "photograph"
    note = f"no val split given: {counts['val']} of {counts['val'] + counts['train']} photographs cut from train, "
    notes = [note + f"stratified by class, by {by}, seed {seed}"]
    if gone := len(labelled) - len(splits):
        notes.append(f"{gone} unlabelled photographs of patients in val are left out")
    return splits, notes


def _groups(labelled: list[tuple[TableRow, int]], contents: Mapping[str, str]) -> list[list[tuple[TableRow, int]]]:
    """Photographs that must share a split: one patient's, and exact copies, transitively (union-find)."""
    parent: dict[str, str] = {}

    def find(item: str) -> str:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for row, _ in labelled:
        for tie in (f"patient {row.patient}" if row.patient else "", f"content {contents[row.key]}"):
            if tie:
                parent[find(tie)] = find(f"key {row.key}")
    groups: dict[str, list[tuple[TableRow, int]]] = defaultdict(list)
    for row, label in labelled:
        groups[find(f"key {row.key}")].append((row, label))
    return list(groups.values())
