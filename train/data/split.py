"""Decide train and val where a dataset does not say: by patient, stratified by class, seeded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from medtex_edge.train.data.table import TableRow

NO_VAL_SPLIT = "no val split given"  # how the note begins that says so


def decide_splits(
    labelled: list[tuple[TableRow, int]], contents: Mapping[str, str], val_fraction: float, seed: int
) -> tuple[dict[str, str], list[str]]:
    """-> key -> split, and notes that say what was decided.

    Given splits stay. Where no photograph is in val, `val_fraction` of each class's patients leave train for it
    (of the photographs where patients are unknown), at least one and never all; a class that has but one stays
    in train. Exact copies stay together. Equal rows and seed give equal splits, whatever their order.
    """
    splits = {row.key: row.split or "train" for row, _ in labelled}
    if "val" in splits.values():
        return splits, []
    groups = _groups([(row, label) for row, label in labelled if splits[row.key] == "train" and label >= 0], contents)
    strata: dict[int, list[list[str]]] = defaultdict(list)
    for members in groups:
        # A patient's eyes may differ: the rarer it is, the more a class needs its share, and high grades are rare.
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
    note = f"{NO_VAL_SPLIT}: {counts['val']} of {counts['val'] + counts['train']} photographs cut from train, "
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
