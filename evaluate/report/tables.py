"""The tables of the evaluation's report: our maps, baselines and controls, every figure with its interval."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medtex_edge.evaluate.report.contenders import (
    Contender,
    better_than,
    contenders,
    measures_of,
    row_title,
    rows_of,
)
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.report import page as html
from medtex_edge.train.report.figures import Figure, figure, is_number, listed, number_text, table, with_interval
from medtex_edge.train.report.measures import (
    ANSWER_MEASURES,
    BASELINE,
    CONTROL,
    CONTROL_NAMES,
    HIGHER,
    LOWER,
    MEASURES,
    MODEL_NAMES,
    OURS,
    Measure,
)

KIND_NAMES = {"MA": "microaneurysms", "HE": "haemorrhages", "EX": "hard exudates", "SE": "soft exudates"}


def answer_table(models: JsonObject, *, compete: bool = True) -> Markup:
    """Models, or groups of photographs, down, measures across; of models that compete the best are marked."""
    known = {str(name): _answer_figures(table(values)) for name, values in models.items()}
    keys = [key for key in ANSWER_MEASURES if any(key in figures for figures in known.values())]
    measures = {key: ANSWER_MEASURES[key] for key in keys}
    best = _best_of_columns(list(known.values()), measures) if compete else {}
    rows = [
        (
            MODEL_NAMES.get(name, name.replace("_", " ")),
            OURS if name == "student" else BASELINE,
            [_cell(figures.get(key), best.get(key)) for key in keys],
        )
        for name, figures in known.items()
        if figures
    ]
    legend = html.bullets([f"{measure.title}: {measure.meaning}." for measure in measures.values()])
    return html.compare(["", *(measure.title for measure in measures.values())], rows) + html.folded(
        "the columns", legend
    )


def contender_table(part: JsonObject, only: Collection[str] = (), but: Collection[str] = ()) -> Markup:
    """Ours, each baseline with the best layer of each column, and the controls; then the meaning of the columns.

    `only` and `but` choose measures by their keys; nothing is drawn where none of them was measured.
    """
    measures, rows = measures_of(part), rows_of(part)
    keys = [
        key
        for key in measures
        if key not in but and (not only or key in only) and any(key in row.figures for row in rows)
    ]
    if not keys:
        return html.EMPTY
    rows = [row for row in rows if any(key in row.figures for key in keys)]
    gathered = contenders(rows, measures)
    best = {
        # A map that never changes is perfectly stable and explains nothing: where controls do not compete, only
        # methods do.
        key: _best([r.best[key][0] for r in gathered if key in r.best and _competes(r, measures[key])], measures[key])
        for key in keys
    }
    timed = any(row.seconds is not None for row in gathered)
    shown = []
    for row in gathered:
        cells = [_contender_cell(row, key, best[key]) for key in keys]
        shown.append((row.title, row.kind, [*cells, *([_seconds(row.seconds)] if timed else [])]))
    head = ["", *(f"{measures[key].title} {_arrow(measures[key])}" for key in keys)]
    head += ["per photograph"] if timed else []
    legend = [f"{measures[key].title}: {measures[key].meaning}." for key in keys if measures[key].meaning]
    layers = [row for row in rows if row.layer]
    every = html.compare(
        ["", "layer", *(measures[key].title for key in keys)],
        [(row.title, row.kind, [html.Cell(row.layer), *(_cell(row.figures.get(k)) for k in keys)]) for row in layers],
    )
    return (
        html.compare(head, shown)
        + html.folded("the columns", html.bullets(legend))
        + html.folded(f"every layer of the baselines ({len(layers)} rows)", every)
    )


def kinds_tables(lesions: JsonObject) -> Markup:
    """One table per measure: explanations down, kinds of lesion across."""
    kinds = {str(kind): table(rows) for kind, rows in table(lesions.get("kinds")).items()}
    measures = measures_of(lesions)
    parts = []
    for key, measure in measures.items():
        names = dict.fromkeys(str(n) for rows in kinds.values() for n, of in rows.items() if table(of).get(key))
        found = {
            name: {kind: f for kind, rows in kinds.items() if (f := figure(table(rows.get(name)).get(key)))}
            for name in names
        }
        across = [kind for kind in kinds if any(kind in row for row in found.values())]
        best = {kind: _best([row[kind] for row in found.values() if kind in row], measure) for kind in across}
        rows = [
            (row_title(name), _kind(name), [_cell(row.get(kind), best[kind]) for kind in across])
            for name, row in found.items()
        ]
        head = [f"{measure.title} {_arrow(measure)}", *(KIND_NAMES.get(kind, kind) for kind in across)]
        parts.append(html.compare(head, rows))
    return html.join(parts)


def cost_table(cost: JsonObject) -> Markup:
    """Multiply-adds and parameters of each part, then what the explanation costs in time."""
    rows = []
    for part in ("teacher", "student", "explainer", "graph"):
        found = table(cost.get(part))
        if found:
            named = "the exported graph" if part == "graph" else part
            rows.append([named, _millions(found.get("macs")), _millions(found.get("parameters"))])
    timed = [
        [name, *(number_text(table(cost.get(key)).get(value)) for value in ("student_ms", "both_ms", "ratio"))]
        for key, name in (("onnxruntime", "ours, ONNX Runtime"), ("gradcam_torch", "Grad-CAM, PyTorch"))
        if table(cost.get(key))
    ]
    return html.table(["", "multiply-adds, million", "parameters, million"], rows) + html.table(
        ["", "answer alone, ms", "answer and map, ms", "times as long"], timed
    )


def ablation_table(rows: Sequence[JsonObject]) -> Markup:
    """Variants down, measures across, every seed written out."""
    keys = dict.fromkeys(key for row in rows for key in row if key != "name")
    shown = []
    for place, row in enumerate(rows):
        cells = []
        for key in keys:
            values = [float(v) for v in listed(row.get(key)) if is_number(v)]
            mean = f"{sum(values) / len(values):.3f}" if values else "-"
            cells.append(html.Cell(mean, ", ".join(f"{v:.3f}" for v in values) if len(values) > 1 else ""))
        shown.append((str(row.get("name", "")), OURS if place == 0 else BASELINE, cells))
    return html.compare(
        ["mean (each seed)", *(MEASURES[key].title if key in MEASURES else key.replace("_", " ") for key in keys)],
        shown,
    )


def _answer_figures(values: JsonObject) -> dict[str, Figure]:
    places = {"sensitivity": "operating_point", "specificity": "operating_point"}
    places |= {"ece": "calibration", "brier": "calibration"}
    found = {
        key: with_interval(table(values.get(places[key])) if key in places else values, key) for key in ANSWER_MEASURES
    }
    return {key: value for key, value in found.items() if value is not None}


def _best_of_columns(rows: Sequence[Mapping[str, Figure]], measures: Mapping[str, Measure]) -> dict[str, float | None]:
    return {key: _best([row[key] for row in rows if key in row], measure) for key, measure in measures.items()}


def _best(figures: Sequence[Figure], measure: Measure) -> float | None:
    # A column whose figures are all the same has no best.
    if not measure.better or len({one.value for one in figures}) < 2:
        return None
    best = figures[0].value
    for other in figures[1:]:
        best = other.value if better_than(other.value, best, measure) else best
    return best


def _competes(row: Contender, measure: Measure) -> bool:
    return measure.compared or row.kind != CONTROL


def _contender_cell(row: Contender, key: str, best: float | None) -> html.Cell:
    if key not in row.best:
        return html.Cell("-")
    value, layer = row.best[key]
    cell = _cell(value, best)
    return cell._replace(note=", ".join(part for part in (cell.note, layer) if part))


def _cell(value: Figure | None, best: float | None = None) -> html.Cell:
    if value is None:
        return html.Cell("-")
    note = f"{value.low:.2f} to {value.high:.2f}" if value.low is not None and value.high is not None else ""
    return html.Cell(number_text(value.value), note, "best" if best is not None and value.value == best else "")


def _arrow(measure: Measure) -> str:
    return {HIGHER: "\N{UPWARDS ARROW}", LOWER: "\N{DOWNWARDS ARROW}"}.get(measure.better, "")


def _kind(name: str) -> str:
    return OURS if name == "ours" else CONTROL if name in CONTROL_NAMES else BASELINE


def _seconds(value: float | None) -> html.Cell:
    return html.Cell("-" if value is None else f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s")


def _millions(value: Any) -> str:
    return f"{value / 1e6:.1f}" if is_number(value) else "-"
