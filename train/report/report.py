"""report.html: what a run is worth, for a reader who does not believe it yet.

Built from the run folder alone (metrics.json, model.json, history.csv, config.toml, plots/*.png), so that it
can be made again later. Plain words come first, then figures with their intervals, then pictures, then where
it all came from. A figure that was not measured is left out or said to be missing, never filled in.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtex_edge import __version__
from medtex_edge.errors import DataError
from medtex_edge.files import atomic_write, storage
from medtex_edge.train.report import page as html
from medtex_edge.train.report.wording import (
    CONTROL_NAMES,
    MAP_LIMITS,
    MAP_MEASURES,
    MAP_READING,
    MODEL_MEASURES,
    MODEL_NAMES,
    NO_DEVICE,
    PLOTS,
    SYNTHETIC,
    number,
    plain_words,
)
from medtex_edge.train.synthetic.dataset import MARK

Facts = Mapping[str, Any]


def write_report(run: Path) -> Path:
    """Write `run`/report.html and return its path.

    Raises `DataError` where metrics.json is missing or is no JSON object, `StorageError` where the disk refuses.
    """
    metrics = _json(run / "metrics.json")
    if metrics is None:
        raise DataError(f"{run} holds no metrics.json", hint="name the folder of a finished run")
    model = _json(run / "model.json") or {}
    history = _history(run / "history.csv")
    config = _text(run / "config.toml")
    name = str(model.get("name") or run.name)
    body = [
        f"<h1>{html.escape(name)}</h1>",
        html.paragraph(f"report of a training run, made by medtex-edge {__version__}", "soft"),
        html.warning(NO_DEVICE),
        html.warning(SYNTHETIC) if is_synthetic(config) else "",
        html.heading("In plain words"),
        html.bullets(plain_words(metrics, model)),
        *_answers(metrics),
        *_operating_point(_dict(metrics.get("operating_point")) or _dict(model.get("operating_point"))),
        html.side_by_side(_plots(run, ("roc", "confusion"))),
        *_maps(_dict(metrics.get("saliency"))),
        *_plots(run, ("sheet", "failure", "")),
        html.heading("How it was trained"),
        _phases(history),
        *_plots(run, ("history",)),
        *_provenance(model, metrics, config),
        f"<footer>{html.paragraph(NO_DEVICE, 'soft')}</footer>",
    ]
    out = run / "report.html"
    with atomic_write(out, "w") as file:
        file.write(html.page(f"{name}: report of a training run", body))
    return out


def is_synthetic(config: str) -> bool:
    """Whether the folder of photographs that config.toml names was drawn by `medtex_edge.train.synthetic.dataset`."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        path = _dict(tomllib.loads(config).get("data")).get("path")
    except tomllib.TOMLDecodeError:
        return False
    if not isinstance(path, str):
        return False
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return (folder / MARK).is_file()


def _answers(metrics: Facts) -> list[str]:
    models = {key: value for key, value in metrics.items() if isinstance(value, dict) and "accuracy" in value}
    if not models:
        return []
    shown = [key for key in MODEL_MEASURES if any(values.get(key) is not None for values in models.values())]
    rows = [
        [MODEL_NAMES.get(name, name.replace("_", " ")), *(_with_interval(values, key) for key in shown)]
        for name, values in models.items()
    ]
    bars = []
    for name, values in models.items():
        bounds, value = _interval(values, "auc_referable"), values.get("auc_referable")
        if bounds and isinstance(value, int | float):
            bars.append(html.Interval(MODEL_NAMES.get(name, name), value, *bounds))
    legend = [f"{MODEL_MEASURES[key][0]}: {MODEL_MEASURES[key][1]}." for key in shown]
    return [
        html.heading("The answers"),
        html.table(["", *(MODEL_MEASURES[key][0] for key in shown)], rows),
        html.interval_chart(bars, "AUC of referable, with 95 % interval; 0.5 is guessing"),
        html.bullets(legend),
    ]


def _operating_point(point: Facts) -> list[str]:
    if not point:
        return []
    rows = [
        ["threshold on the referable probability", number(point.get("threshold"))],
        ["wanted sensitivity", number(point.get("target_sensitivity"))],
        ["sensitivity reached", _with_interval(point, "sensitivity")],
        ["specificity reached", _with_interval(point, "specificity")],
        ["photographs: referable, not referable", f"{point.get('positives', '?')}, {point.get('negatives', '?')}"],
    ]
    remark = (
        "The threshold was chosen on these same validation photographs, so the figures lean to the good side. "
        "Intervals are exact 95 % (Clopper-Pearson). The threshold is sealed into the bundle and cannot be moved on a "
        "device."
    )
    return [html.heading("The operating point"), html.table(["", ""], rows), html.paragraph(remark, "soft")]


def _maps(saliency: Facts) -> list[str]:
    if not saliency:
        return []
    rows = [
        [MAP_MEASURES[key][0], _with_interval(saliency, key), MAP_MEASURES[key][1]]
        for key in MAP_MEASURES
        if saliency.get(key) is not None
    ]
    controls = {name: value for name, value in _dict(saliency.get("controls")).items() if isinstance(value, dict)}
    keys = [key for key in MAP_MEASURES if any(value.get(key) is not None for value in controls.values())]
    compared = [
        ["the maps of this run", *(number(saliency.get(key)) for key in keys)],
        *(
            [CONTROL_NAMES.get(name, name.replace("_", " ")), *(number(value.get(key)) for key in keys)]
            for name, value in controls.items()
        ),
    ]
    parts = [html.heading("The saliency maps"), html.table(["measure", "value", "what it says"], rows, numbers=False)]
    if keys:
        parts.append(html.paragraph("Against maps that cannot know where the lesions of a photograph are:"))
        parts.append(html.table(["", *(MAP_MEASURES[key][0] for key in keys)], compared))
    return [*parts, html.bullets(MAP_READING), html.paragraph("Limits:"), html.bullets(MAP_LIMITS)]


def _plots(run: Path, families: tuple[str, ...]) -> list[str]:
    """The pictures whose names open with a family's; the family '' takes what no family of `PLOTS` claims."""
    parts = []
    for path in sorted((run / "plots").glob("*.png")):
        family = next((known for known in PLOTS if path.stem.startswith(known)), "")
        if family in families:
            with storage(path, "read"):
                png = path.read_bytes()
            title, caption = PLOTS.get(family, (path.stem.replace("_", " "), path.stem.replace("_", " ")))
            if family and path.stem not in (family, family + "s"):
                caption = f"{path.stem.replace('_', ' ')}. {caption}"
            parts.append((families.index(family), html.figure(png, caption, title)))
    return [picture for _, picture in sorted(parts, key=lambda part: part[0])]


def _phases(history: list[dict[str, str]]) -> str:
    counts: dict[str, int] = {}
    for row in history:
        counts[row.get("phase", "")] = counts.get(row.get("phase", ""), 0) + 1
    return html.table(["phase", "epochs"], [[phase or "training", str(count)] for phase, count in counts.items()])


def _provenance(model: Facts, metrics: Facts, config: str) -> list[str]:
    simple = [
        [key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for key, value in model.items()
        if not isinstance(value, dict) and value is not None
    ]
    everything = json.dumps(metrics, indent=2, ensure_ascii=False)
    return [
        html.heading("Where it came from"),
        html.table(["", ""], simple, numbers=False),
        html.details("config.toml: every setting of this run", config) if config else "",
        html.details("metrics.json: everything that was measured", everything),
    ]


def _with_interval(values: Facts, key: str) -> str:
    bounds = _interval(values, key)
    return number(values.get(key)) + (f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else "")


def _interval(values: Facts, key: str) -> tuple[float, float] | None:
    bounds = values.get(f"{key}_interval")
    if isinstance(bounds, list) and len(bounds) == 2 and all(_finite(bound) for bound in bounds):
        return float(bounds[0]), float(bounds[1])
    return None


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    with storage(path, "read"):
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _json(path: Path) -> dict[str, Any] | None:
    text = _text(path)
    if not text:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON: {error}", hint="the run is damaged; train it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(value).__name__}", hint="the run is damaged")
    return value


def _history(path: Path) -> list[dict[str, str]]:
    return [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(_text(path).splitlines())]
