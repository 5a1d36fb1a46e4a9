"""The rows of evaluation.json as contenders: our map, the attribution methods at their best layer, the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medtex_edge.strictjson import JsonObject
from medtex_edge.train.report.figures import Figure, figure, is_number, listed, table
from medtex_edge.train.report.measures import (
    BASELINE,
    CONTROL,
    HIGHER,
    LOWER,
    MAP_MEASURES,
    OURS,
    Measure,
    method_title,
)


@dataclass(frozen=True)
class MeasureRow:
    """One explanation as measured; `layer` is empty where a method has none."""

    title: str
    kind: str  # OURS, BASELINE, CONTROL
    layer: str
    figures: dict[str, Figure]
    seconds: float | None


@dataclass(frozen=True)
class Contender:
    """One explanation with each measure at the layer where it is best, which favours the baselines."""

    title: str
    kind: str
    best: dict[str, tuple[Figure, str]]  # measure -> the figure and its layer
    seconds: float | None


def measures_of(part: JsonObject) -> dict[str, Measure]:
    """The known measures in our order, then those that only this file has; the texts of the file take precedence."""
    found = dict(MAP_MEASURES)
    for key, entry in table(part.get("measures")).items():
        known, given = found.get(key), table(entry)
        better = given.get("better")
        found[str(key)] = Measure(
            str(given.get("title") or (known.title if known else str(key).replace("_", " "))),
            str(better) if better in (LOWER, HIGHER) else known.better if known else "",
            str(given.get("meaning") or (known.meaning if known else "")).rstrip("."),
            known.compared if known else False,
        )
    return found


def rows_of(part: JsonObject) -> list[MeasureRow]:
    """The rows of a part (explanation or lesions), ours first, then baselines, then controls."""
    rows = []
    for entry in listed(part.get("rows")):
        values = table(entry)
        name, kind = str(values.get("name") or "?"), str(values.get("kind") or BASELINE)
        of = f" of the {values['of']}" if values.get("of") and kind == BASELINE else ""
        found = {str(k): f for k, v in table(values.get("measures")).items() if (f := figure(v)) is not None}
        seconds = values.get("seconds_per_photograph")
        if found:
            layer = str(values.get("layer") or "")
            title = method_title(name) + of
            rows.append(MeasureRow(title, kind, layer, found, float(seconds) if is_number(seconds) else None))
    order = {OURS: 0, BASELINE: 1, CONTROL: 2}
    return sorted(rows, key=lambda row: order.get(row.kind, 1))


def row_title(key: str) -> str:
    """The title of a row from its key of method, model and layer: "gradcam teacher blocks.3"."""
    name, *rest = key.split(" ")
    of, layer = (rest[0] if rest else ""), " ".join(rest[1:])
    title = method_title(name) + (f" of the {of}" if of else "")
    return f"{title}, {layer}" if layer else title


def contenders(rows: Sequence[MeasureRow], measures: Mapping[str, Measure]) -> list[Contender]:
    """One contender per method: for each measure it has the figure of the best layer."""
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
    """Strictly better; never where the better direction is unknown."""
    return one < other if measure.better == LOWER else one > other if measure.better == HIGHER else False


def our_figures(part: JsonObject) -> dict[str, Figure]:
    """The figures of our own row."""
    return next((row.figures for row in rows_of(part) if row.kind == OURS), {})
