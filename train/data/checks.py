"""The checks of a dataset: rows, files, labels, contents, and photographs or patients shared between splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from medtex_edge.contract import MAX_CLASSES
from medtex_edge.errors import ImageError, NoFieldOfView
from medtex_edge.progress import Progress, counting
from medtex_edge.train.compute.device import in_order
from medtex_edge.train.data.problems import Problems
from medtex_edge.train.data.table import Table, TableRow

_WHOLE = re.compile(r"[+-]?\d{1,9}(?:\.0*)?", re.ASCII)  # pandas writes 2 as 2.0
_MANY = 20  # labelled photographs from which on nearly all different labels are a wrong column
_STRONGEST = ("test", "val", "train")  # the split that keeps a photograph of which there are copies

Labelled = list[tuple[TableRow, int]]


def check_listing(table: Table, problems: Problems) -> list[TableRow]:
    """The rows of the table, each photograph once. Names those that are listed again."""
    listed: dict[str, list[TableRow]] = defaultdict(list)
    for row in table.rows:
        listed[row.key].append(row)
    rows = []
    for key, same in listed.items():
        agree = len({(row.label, row.split) for row in same}) == 1
        if len(same) > 1:
            how = f"listed {len(same)} times" if agree else "listed with different labels or splits"
            problems.add("duplicates", f"{key}: {how}: {', '.join(row.where for row in same)}")
        if agree:
            rows.append(same[0])
    return rows


def check_files(labelled: Labelled, table: Table, problems: Problems) -> Labelled:
    """The rows whose photograph and mask exist. Names the missing ones."""
    if table.form == "npz":
        return labelled
    there = []
    for row, label in labelled:
        absent = [key for key in (row.key, row.mask) if key and not _is_file(table.root / key)]
        if absent:
            problems.add("missing", f"{absent[0]}: there is no such file ({row.where})")
        else:
            there.append((row, label))
    return there


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is longer than the file system allows
        return False


def check_labels(rows: Sequence[TableRow], table: Table, problems: Problems) -> tuple[tuple[str, ...], bool, Labelled]:
    """-> classes, whether they are ordered, and each usable row with its class index (-1: unlabelled).

    Folders fix the classes; else whole numbers are grades 0..C-1, and other texts are class names in
    alphabetical order.
    """
    rows = _check_splits(rows, problems)
    names = [row.label for row in rows if row.label]
    if table.class_names:
        classes, ordered = table.class_names, table.ordered
    elif 2 * sum(_WHOLE.fullmatch(name) is not None for name in names) > len(names):
        classes, ordered = _grades(rows, problems), True
    else:
        classes, ordered = tuple(sorted(set(names))), False
        if len(classes) > MAX_CLASSES or (len(names) >= _MANY and len(classes) > len(names) / 2):
            problems.add("", f"{len(classes)} different labels on {len(names)} photographs: is that their class?")
    if len(classes) < 2:
        problems.add("", f"expected at least two classes, got {', '.join(classes) or 'no label at all'}")
    index = {name: number for number, name in enumerate(classes)}
    by_number = ordered and not table.class_names
    labelled = []
    for row in rows:
        name = str(int(float(row.label))) if by_number and _WHOLE.fullmatch(row.label) else row.label
        if not name:
            labelled.append((row, -1))
        elif name in index:
            labelled.append((row, index[name]))
    return classes, ordered, labelled


def _check_splits(rows: Sequence[TableRow], problems: Problems) -> list[TableRow]:
    """Require that all labelled rows name a split, or none does; unlabelled rows are for training only."""
    given = any(row.split for row in rows)
    kept = []
    for row in rows:
        if given and row.label and not row.split:
            problems.add("", f"{row.where}: no split, while other photographs have one")
        elif not row.label and row.split in ("val", "test"):
            problems.add("unlabelled", f"{row.where}: {row.key} is in {row.split} without a label")
        else:
            kept.append(row)
    return kept


def _grades(rows: Sequence[TableRow], problems: Problems) -> tuple[str, ...]:
    """The grades 0..C-1, where most labels are whole numbers. Names every other label as a problem."""
    counts: Counter[int] = Counter()
    for row in rows:
        if _WHOLE.fullmatch(row.label):
            counts[int(float(row.label))] += 1
        elif row.label:
            problems.add("", f"{row.where}: label {row.label!r} is not a whole number, as the others are")
    end = next(grade for grade in range(len(counts) + 1) if grade not in counts)  # the first absent grade
    highest = max(counts)
    # A grade beyond a gap is real where several photographs have it and it is near; otherwise it is a typing error.
    near = min(MAX_CLASSES - 1, end + max(5, end))
    slips = {g: g < 0 or g > near for g, n in counts.items() if not 0 <= g < end and (n < 2 or not 0 <= g <= near)}
    for row in rows:
        if _WHOLE.fullmatch(row.label) and (grade := int(float(row.label))) in slips:
            problems.add(
                "" if slips[grade] else "rare-classes",
                f"{row.where}: label {row.label} is out of range: the others begin at 0 and have no gap"
                + ("; an unlabelled photograph has an empty label" if grade < 0 else ""),
            )
    real = [g for g in counts if g not in slips or ("rare-classes" in problems.accept and not slips[g])]
    return tuple(map(str, range(max(real, default=highest) + 1)))


def check_contents(labelled: Labelled, table: Table, problems: Problems, progress: Progress) -> dict[str, str]:
    """key -> SHA-256 of every usable photograph. Names those that are unreadable or without a field of view."""

    def examine(row: TableRow) -> str | ImageError:
        try:
            return table.examine(row.key)
        except ImageError as error:
            return error

    contents = {}
    with counting(progress, "checking photographs", len(labelled)) as advance:
        rows = [row for row, _ in labelled]
        for row, found in zip(rows, in_order(examine, rows), strict=True):
            if isinstance(found, NoFieldOfView):
                problems.add("no-field-of-view", f"{row.key}: {found.message}")
            elif isinstance(found, ImageError):
                problems.add("unreadable", found.message)
            else:
                contents[row.key] = found
            advance()
    return contents


def check_copies(
    labelled: Labelled, splits: Mapping[str, str], contents: Mapping[str, str], problems: Problems
) -> Labelled:
    """Name copies across splits and copies whose labels differ; -> the photographs that remain without them."""
    copies: dict[str, Labelled] = defaultdict(list)
    for row, label in labelled:
        copies[contents[row.key]].append((row, label))
    left_out: set[str] = set()
    for same in copies.values():
        places = {splits[row.key] for row, _ in same}
        known = {label for _, label in same if label >= 0}
        named = ", ".join(f"{row.key} ({splits[row.key]})" for row, _ in same)
        if len(known) > 1:
            problems.add("duplicates", f"the same photograph with different labels: {named}")
            left_out.update(row.key for row, _ in same)
        elif len(places) > 1:
            problems.add("duplicates", f"the same photograph in several splits: {named}")
            strongest = next(split for split in _STRONGEST if split in places)
            left_out.update(row.key for row, _ in same if splits[row.key] != strongest)
    return [(row, label) for row, label in labelled if row.key not in left_out]


def check_patients(labelled: Labelled, splits: Mapping[str, str], problems: Problems) -> None:
    """Name the patients whose photographs are in several splits."""
    places: dict[str, set[str]] = defaultdict(set)
    for row, _ in labelled:
        if row.patient:
            places[row.patient].add(splits[row.key])
    for patient, found in places.items():
        if len(found) > 1:
            problems.add("shared-patients", f"patient {patient} is in {' and '.join(sorted(found))}")


def check_classes(labelled: Labelled, splits: Mapping[str, str], classes: Sequence[str], problems: Problems) -> None:
    """Name the classes with too few photographs to be learnt or validated."""
    counts = Counter(label for _, label in labelled)
    # Where other problems were found, the rows are those from before the split.
    place = {row.key: splits.get(row.key, row.split or "train") for row, _ in labelled}
    trained = Counter(label for row, label in labelled if place[row.key] == "train")
    for index, name in enumerate(classes):
        if counts[index] < 2:
            problems.add("rare-classes", f"class {name} has {counts[index] or 'no'} photograph")
        elif trained[index] == 0:
            problems.add("rare-classes", f"class {name} has no photograph in train")


def check_enough(labelled: Labelled, splits: Mapping[str, str], problems: Problems) -> None:
    """Name a split that training needs and that has no labelled photograph."""
    for split, what in (("train", "to train on"), ("val", "to validate on")):
        if not any(splits[row.key] == split and label >= 0 for row, label in labelled):
            problems.add("", f"no labelled photograph {what}")
