"""evaluation.json as a reader may trust it: figures that are figures, rows that are rows, rivals at their best layer.

The file is written by `medtex-edge evaluate`, but it may also be old, cut short or edited by hand: whatever has not
the expected form counts as not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from medtex_edge.errors import DataError
from medtex_edge.files import storage

LOWER, HIGHER = "lower", "higher"


class Figure(NamedTuple):
    """A measured value; `low` and `high` are its 95 % interval where there is one, `n` its photographs."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Measure(NamedTuple):
    """How a measure is called, which way is better, what it says, and whether rivals and controls compete in it."""

    title: str
    better: str
    meaning: str
    judged: bool = False


MEASURES = {
    "pixel_auc": Measure(
        "pixel AUC", HIGHER, "the chance that a lesion's pixel is brighter than one beside it; 0.5 is guessing", True
    ),
    "pointing": Measure(
        "pointing", HIGHER, "the fraction of maps whose brightest point lies on a lesion, within a few pixels", True
    ),
    "relevance": Measure(
        "relevance over chance", HIGHER, "how much of the map lies on lesions, against an even map; 1 is chance", True
    ),
    "dice": Measure("Dice", HIGHER, "overlap with the lesions when the map is cut to the lesions' own area", True),
    "deletion": Measure(
        "deletion", LOWER, "what is left of the answer on average while the brightest parts are taken away", True
    ),
    "insertion": Measure(
        "insertion", HIGHER, "how much of the answer is there on average while the brightest parts come first", True
    ),
    "deletion_referable": Measure("deletion, referable", LOWER, "the same for the referable probability", True),
    "insertion_referable": Measure("insertion, referable", HIGHER, "the same for the referable probability", True),
    "road": Measure("ROAD", HIGHER, "the gap between filling in the least and the most salient part", True),
    "fidelity_label": Measure("class kept", HIGHER, "the class stays the teacher's when only the mask is seen"),
    "fidelity_verdict": Measure("verdict kept", HIGHER, "the verdict stays the teacher's when only the mask is seen"),
    "fidelity_verdict_referable": Measure(
        "verdict kept, referable", HIGHER, "the same over the photographs that the teacher calls referable"
    ),
    "area": Measure("area", LOWER, "the share of a photograph's detail that the mask opens"),
    "area_referable": Measure("area, referable", LOWER, "the same over photographs that the teacher calls referable"),
    "sparsity": Measure("sparsity (Gini)", HIGHER, "0 for an even map, towards 1 for a map of few bright points"),
    "max_sensitivity": Measure(
        "largest change", LOWER, "how far the map moves under small shifts and noise; a map that never changes scores 0"
    ),
    "randomisation": Measure(
        "kept after shuffling", LOWER, "rank correlation with the map of the same model with shuffled weights"
    ),
    "deletion_teacher": Measure(
        "deletion, by the teacher", LOWER, "as deletion, judged by a teacher that never saw masked photographs"
    ),
    "insertion_teacher": Measure(
        "insertion, by the teacher", HIGHER, "as insertion, judged by a teacher that never saw masked photographs"
    ),
}

ROW_NAMES = {
    "ours": "ours",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "gradcampp": "Grad-CAM++",
    "layercam": "Layer-CAM",
    "ig": "integrated gradients",
    "rise": "RISE",
    "mean_map": "control: one average map for all",
    "centred_gaussian": "control: a spot in the middle",
    "other_photograph": "control: another photograph's map",
    "uniform": "control: an even map",
}


@dataclass(frozen=True)
class MeasureRow:
    """One explanation as measured; `layer` is empty where a method has none."""

    title: str
    kind: str  # ours, rival, control
    layer: str
    figures: dict[str, Figure]
    seconds: float | None


@dataclass(frozen=True)
class Contender:
    """One explanation with each measure at the layer where it is best: as kind to rivals as can be."""

    title: str
    kind: str
    best: dict[str, tuple[Figure, str]]  # measure -> the figure and its layer
    seconds: float | None


def read_facts(path: Path) -> dict[str, Any] | None:
    """A JSON object of a file; None where there is no file. Raises `DataError` where it is something else."""
    if not path.is_file():
        return None
    with storage(path, "read"):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}", hint="make it again with the command that wrote it") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(value).__name__}", hint="make it again")
    return value


def figure(value: Any) -> Figure | None:
    """{"value", "interval", "n"} or a bare number; None where it was not measured."""
    if is_number(value):
        return Figure(float(value))
    entry = table(value)
    if not is_number(entry.get("value")):
        return None
    low, high = bounds(entry.get("interval")) or (None, None)
    count = entry.get("n")
    return Figure(float(entry["value"]), low, high, count if isinstance(count, int) else None)


def with_interval(values: Mapping[str, Any], key: str) -> Figure | None:
    """A figure whose interval stands beside it as KEY_interval, as in metrics.json."""
    if not is_number(values.get(key)):
        return None
    low, high = bounds(values.get(f"{key}_interval")) or (None, None)
    count = values.get("n")
    return Figure(float(values[key]), low, high, count if isinstance(count, int) else None)


def measures_of(part: Mapping[str, Any]) -> dict[str, Measure]:
    """The known measures, in our order, then those that only this file knows; its own words go before ours."""
    found = dict(MEASURES)
    for key, entry in table(part.get("measures")).items():
        known, said = found.get(key), table(entry)
        better = said.get("better")
        found[str(key)] = Measure(
            str(said.get("title") or (known.title if known else str(key).replace("_", " "))),
            str(better) if better in (LOWER, HIGHER) else known.better if known else "",
            str(said.get("meaning") or (known.meaning if known else "")).rstrip("."),
            known.judged if known else False,
        )
    return found


def rows_of(part: Mapping[str, Any]) -> list[MeasureRow]:
    """The rows of a part (explanation or lesions), ours first, then rivals, then controls."""
    rows = []
    for entry in listed(part.get("rows")):
        values = table(entry)
        name, kind = str(values.get("name") or "?"), str(values.get("kind") or "rival")
        of = f" of the {values['of']}" if values.get("of") and kind == "rival" else ""
        found = {str(k): f for k, v in table(values.get("measures")).items() if (f := figure(v)) is not None}
        seconds = values.get("seconds_per_photograph")
        if found:
            layer = str(values.get("layer") or "")
            title = ROW_NAMES.get(name, name.replace("_", " ")) + of
            rows.append(MeasureRow(title, kind, layer, found, float(seconds) if is_number(seconds) else None))
    order = {"ours": 0, "rival": 1, "control": 2}
    return sorted(rows, key=lambda row: order.get(row.kind, 1))


def row_title(key: str) -> str:
    """The title of a row that is named by method, model and layer in one word: "gradcam teacher blocks.3"."""
    name, *rest = key.split(" ")
    of, layer = (rest[0] if rest else ""), " ".join(rest[1:])
    title = ROW_NAMES.get(name, name.replace("_", " ")) + (f" of the {of}" if of else "")
    return f"{title}, {layer}" if layer else title


def contenders(rows: Sequence[MeasureRow], measures: Mapping[str, Measure]) -> list[Contender]:
    """One per method, its layers gone into one row that has the best of them for each measure."""
    gathered: dict[tuple[str, str], list[MeasureRow]] = {}
    for row in rows:
        gathered.setdefault((row.kind, row.title), []).append(row)
    result = []
    for (kind, title), layers in gathered.items():
        best: dict[str, tuple[Figure, str]] = {}
        for key in dict.fromkeys(key for row in layers for key in row.figures):
            measure = measures.get(key)
            candidates = [(row.figures[key], row.layer) for row in layers if key in row.figures]
            best[key] = candidates[0]
            for candidate in candidates[1:]:
                if measure and better_than(candidate[0].value, best[key][0].value, measure):
                    best[key] = candidate
        seconds = [row.seconds for row in layers if row.seconds is not None]
        result.append(Contender(title, kind, best, min(seconds) if seconds else None))
    return result


def better_than(one: float, other: float, measure: Measure) -> bool:
    """Strictly better; never where nobody said which way is better."""
    return one < other if measure.better == LOWER else one > other if measure.better == HIGHER else False


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def bounds(value: Any) -> tuple[float, float] | None:
    """An interval, or None."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(is_number(bound) for bound in value):
        return float(value[0]), float(value[1])
    return None


def table(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """A JSON list, or an empty one."""
    return value if isinstance(value, list) else []
