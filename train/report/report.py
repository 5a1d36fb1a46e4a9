"""report.html: what a run is worth, for a sceptical reader.

Built from the run folder alone (metrics.json, model.json, history.csv, config.toml, plots/*.png), so that it
can be made again later. Plain sentences come first, then figures with their intervals, then pictures, then where
it all came from. A figure that was not measured is left out or reported as missing, never filled in.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from markupsafe import Markup

from medtex_edge import __version__
from medtex_edge.errors import DataError
from medtex_edge.files import atomic_write, storage
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.report import page as html
from medtex_edge.train.report.figures import (
    is_number,
    number_text,
    percent,
    read_json_object,
    table,
    with_interval,
)
from medtex_edge.train.report.measures import ANSWER_MEASURES, CONTROL_NAMES, MAP_MEASURES, MODEL_NAMES
from medtex_edge.train.synthetic.dataset import MARK

FEW = 100  # photographs, below which a proportion's interval is wider than most differences between methods
NO_DEVICE = (
    "This is research software and no medical device. It has not been validated for any clinical use, and nothing "
    "here may decide about a patient."
)
SYNTHETIC = (
    "The photographs of this run were drawn by a program. Its figures show that the software works from end to "
    "end; they are no evidence about eyes."
)

MAP_READING = (
    "A map shows what the answer was made from. The student sees the photograph only through it: full detail where "
    "the map is 1, the blurred photograph where it is 0. It is part of the computation, not a picture made afterwards.",
    "Colours mean the same everywhere: the scale is 0 to 1 in every picture, drawn by the root so that small values "
    "can be seen, and never stretched to a picture's own maximum.",
    "Wide, faint maps on healthy photographs are expected: no small region shows that nothing is there.",
)
MAP_LIMITS = (
    "It is no segmentation: a lesion outside of the bright part was not needed for the answer, which does not mean "
    "that it is absent.",
    "Outside of the bright part the student still sees the blurred photograph: colour, brightness and anatomy "
    "at a coarse scale can contribute everywhere.",
    "Its resolution is a quarter of the input's. Microaneurysms of one to three pixels are located by their "
    "neighbourhood at best.",
    "A plausible map does not make an answer right; read the failures as well as the hits.",
    "The distance of a map from the controls, not its own figure, shows how much it depends on this photograph.",
)

# the prefix of a picture's file name -> its title, its caption
PLOTS = {
    "roc": (
        "ROC curve of the referable probability",
        "Every threshold's trade between missed and needless referrals, and the one that was chosen.",
    ),
    "confusion": (
        "Confusion matrix",
        "Labels down, answers across; the number of photographs in each cell, shaded by the fraction of its row.",
    ),
    "sheet": (
        "Validation photographs with their saliency",
        "Each pair is a photograph and its saliency upon it. Outlines, where there are any, were drawn by hand.",
    ),
    "failure": (
        "Failures: photographs answered wrongly",
        "Photographs that were answered wrongly, with their saliency. Read them before the hits.",
    ),
    "history": (
        "Loss terms and validation measures over the epochs",
        "Each term on its own scale; blue was minimised, orange was measured on validation photographs. "
        "Between phases a term may change its meaning.",
    ),
}


def write_report(run: Path) -> Path:
    """Write `run`/report.html and return its path.

    Raises `DataError` where metrics.json is missing or is no JSON object, `StorageError` where the disk refuses.
    """
    metrics = read_json_object(run / "metrics.json")
    if metrics is None:
        raise DataError(f"{run} holds no metrics.json", hint="name the folder of a finished run")
    model = read_json_object(run / "model.json") or {}
    history = _history(run / "history.csv")
    config = _text(run / "config.toml")
    name = str(model.get("name") or run.name)
    body = [
        html.title(name),
        html.paragraph(f"report of a training run, made by medtex-edge {__version__}", "soft"),
        html.warning(NO_DEVICE),
        html.warning(SYNTHETIC) if is_synthetic(config) else html.EMPTY,
        html.heading("Summary"),
        html.bullets(run_summary(metrics, model)),
        *_models(metrics),
        *_operating_point(table(metrics.get("operating_point")) or table(model.get("operating_point"))),
        html.side_by_side(_plots(run, ("roc", "confusion"))),
        *_maps(table(metrics.get("saliency"))),
        *_plots(run, ("sheet", "failure", "")),
        html.heading("How it was trained"),
        _phases(history),
        *_plots(run, ("history",)),
        *_provenance(model, metrics, config),
        html.footer(NO_DEVICE),
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
        path = table(tomllib.loads(config).get("data")).get("path")
    except tomllib.TOMLDecodeError:
        return False
    if not isinstance(path, str):
        return False
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return (folder / MARK).is_file()


def run_summary(metrics: JsonObject, model: JsonObject) -> list[str]:
    """The summary of a run as sentences, each left out where its figure was not measured."""
    student, teacher = table(metrics.get("student")), table(metrics.get("teacher"))
    return [
        sentence
        for sentence in (
            _ranking(student, teacher),
            _operation(table(metrics.get("operating_point")) or table(model.get("operating_point"))),
            _agreement(metrics.get("agreement")),
            _map_sentence(table(metrics.get("saliency"))),
            _sample_size(student or teacher),
        )
        if sentence
    ]


def student_warnings(student: JsonObject) -> list[str]:
    """What a student's own figures give reason to doubt: missed sensitivity, miscalibration, few photographs."""
    point = table(student.get("operating_point"))
    found, wanted = with_interval(point, "sensitivity"), point.get("target_sensitivity")
    lines = []
    if found and is_number(wanted) and found.value < wanted:
        reached = f", with an interval up to {percent(found.high)}" if found.high is not None else ""
        lines.append(
            f"The threshold was set for a sensitivity of {percent(wanted)}; here it finds "
            f"{percent(found.value)} of the referable photographs{reached}."
        )
    error = with_interval(table(student.get("calibration")), "ece")
    if error and error.value > 0.1:
        lines.append(f"The stated probabilities are off by {error.value:.2f} on average: do not read them as risks.")
    count = student.get("n")
    if is_number(count) and 0 < count < FEW:
        lines.append(
            f"Measured on {count:.0f} photographs, where one photograph is {100 / count:.2g} points of accuracy: "
            "read the intervals before the figures."
        )
    return lines


def control_warnings(saliency: JsonObject) -> list[str]:
    """The measures of a run's maps in which a control is better than they are; `saliency` as in metrics.json."""
    lines = []
    for key, measure in MAP_MEASURES.items():
        ours = saliency.get(key)
        controls = table(saliency.get("controls")).items()
        values = {str(name): value for name, of in controls if is_number(value := table(of).get(key))}
        if measure.compared and is_number(ours) and values and max(values.values()) > ours:
            best = max(values, key=lambda name: values[name])
            lines.append(
                f"In {measure.title} our maps ({ours:.3f}) lose to a control that does not depend on the photograph: "
                f"{CONTROL_NAMES.get(best, best.replace('_', ' '))} ({values[best]:.3f})."
            )
    return lines


def _models(metrics: JsonObject) -> list[Markup]:
    models = {key: value for key, value in metrics.items() if isinstance(value, dict) and "accuracy" in value}
    if not models:
        return []
    keys = [key for key in ANSWER_MEASURES if any(values.get(key) is not None for values in models.values())]
    rows = [
        [MODEL_NAMES.get(name, name.replace("_", " ")), *(_cell(values, key) for key in keys)]
        for name, values in models.items()
    ]
    bars = [
        html.Interval(MODEL_NAMES.get(name, name), found.value, found.low, found.high)
        for name, values in models.items()
        if (found := with_interval(values, "auc_referable")) and found.low is not None and found.high is not None
    ]
    legend = [f"{ANSWER_MEASURES[key].title}: {ANSWER_MEASURES[key].meaning}." for key in keys]
    return [
        html.heading("The answers"),
        html.table(["", *(ANSWER_MEASURES[key].title for key in keys)], rows),
        html.interval_chart(
            bars, f"{ANSWER_MEASURES['auc_referable'].title}, with 95 % confidence interval; 0.5 is guessing"
        ),
        html.bullets(legend),
    ]


def _operating_point(point: JsonObject) -> list[Markup]:
    if not point:
        return []
    rows = [
        ["threshold on the referable probability", number_text(point.get("threshold"))],
        ["wanted sensitivity", number_text(point.get("target_sensitivity"))],
        ["sensitivity reached", _cell(point, "sensitivity")],
        ["specificity reached", _cell(point, "specificity")],
        ["photographs: referable, not referable", f"{point.get('positives', '?')}, {point.get('negatives', '?')}"],
    ]
    remark = (
        "The threshold was chosen on these same validation photographs, so the figures are optimistic. "
        "Intervals are exact 95 % confidence intervals (Clopper-Pearson). The threshold is sealed into the bundle and "
        "cannot be moved on a device."
    )
    return [html.heading("The operating point"), html.table(["", ""], rows), html.paragraph(remark, "soft")]


def _maps(saliency: JsonObject) -> list[Markup]:
    if not saliency:
        return []
    rows = [
        [MAP_MEASURES[key].title, _cell(saliency, key), MAP_MEASURES[key].meaning]
        for key in MAP_MEASURES
        if saliency.get(key) is not None
    ]
    if saliency.get("n") is not None:
        rows.append(["n", number_text(saliency["n"]), "photographs with lesions marked by hand"])
    controls = {name: value for name, value in table(saliency.get("controls")).items() if isinstance(value, dict)}
    titles = {key: measure.title for key, measure in MAP_MEASURES.items()} | {"n": "n"}
    keys = [key for key in titles if any(value.get(key) is not None for value in controls.values())]
    comparison = [
        ["the maps of this run", *(number_text(saliency.get(key)) for key in keys)],
        *(
            [CONTROL_NAMES.get(name, name.replace("_", " ")), *(number_text(value.get(key)) for key in keys)]
            for name, value in controls.items()
        ),
    ]
    parts = [html.heading("The saliency maps"), html.table(["measure", "value", "meaning"], rows, numbers=False)]
    if keys:
        parts.append(html.paragraph("Against maps that cannot know where the lesions of a photograph are:"))
        parts.append(html.table(["", *(titles[key] for key in keys)], comparison))
    return [*parts, html.bullets(MAP_READING), html.paragraph("Limits:"), html.bullets(MAP_LIMITS)]


def _plots(run: Path, families: tuple[str, ...]) -> list[Markup]:
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


def _phases(history: list[dict[str, str]]) -> Markup:
    counts: dict[str, int] = {}
    for row in history:
        counts[row.get("phase", "")] = counts.get(row.get("phase", ""), 0) + 1
    return html.table(["phase", "epochs"], [[phase or "training", str(count)] for phase, count in counts.items()])


def _provenance(model: JsonObject, metrics: JsonObject, config: str) -> list[Markup]:
    simple = [
        [key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for key, value in model.items()
        if not isinstance(value, dict) and value is not None
    ]
    everything = json.dumps(metrics, indent=2, ensure_ascii=False)
    return [
        html.heading("Origin"),
        html.table(["", ""], simple, numbers=False),
        html.details("config.toml: every setting of this run", config) if config else html.EMPTY,
        html.details("metrics.json: everything that was measured", everything),
    ]


def _cell(values: JsonObject, key: str) -> str:
    """A count, or 0.950 (0.90 to 0.99)."""
    found = with_interval(values, key)
    interval = f" ({found.low:.2f} to {found.high:.2f})" if found and found.low is not None else ""
    return number_text(values.get(key)) + interval


def _text(path: Path) -> str:
    with storage(path, "read"):
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _history(path: Path) -> list[dict[str, str]]:
    return [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(_text(path).splitlines())]


def _ranking(student: JsonObject, teacher: JsonObject) -> str:
    mine, other = student.get("auc_referable"), teacher.get("auc_referable")
    if not isinstance(mine, float):
        return ""
    bounds = student.get("auc_referable_interval")
    interval = f" (95 % interval {percent(bounds[0])} to {percent(bounds[1])})" if isinstance(bounds, list) else ""
    sentence = (
        f"Of two photographs, one referable and one not, the student ranks the referable one higher in {percent(mine)}"
    )
    sentence += f" of all pairs{interval}"
    return sentence + (f"; its teacher does in {percent(other)}." if isinstance(other, float) else ".")


def _operation(point: JsonObject) -> str:
    found, spared = point.get("sensitivity"), point.get("specificity")
    if not isinstance(found, int | float) or not isinstance(spared, int | float):
        return ""
    return (
        f"At its threshold it finds {percent(found)} of the {point.get('positives', '')} referable photographs and "
        f"leaves {percent(spared)} of the {point.get('negatives', '')} others alone."
    )


def _agreement(value: object) -> str:
    if not isinstance(value, float):
        return ""
    return f"It gives the same class as its teacher on {percent(value)} of the photographs."


def _map_sentence(saliency: JsonObject) -> str:
    area, auc = saliency.get("mean_area"), saliency.get("pixel_auc")
    if not isinstance(area, float):
        return ""
    sentence = f"To do so it sees {percent(area)} of a photograph's detail on average, the rest only blurred."
    if isinstance(auc, float):
        sentence += f" A pixel of a lesion is brighter in its map than one outside in {percent(auc)} of pairs"
        control = table(table(saliency.get("controls")).get("mean_map")).get("pixel_auc")
        known = f", against {percent(control)} for one map for all photographs" if isinstance(control, float) else ""
        sentence += known + "."
    return sentence


def _sample_size(values: JsonObject) -> str:
    count = values.get("n")
    if not isinstance(count, int) or count < 1:
        return ""
    caution = "; read the intervals before the figures" if count < 500 else ""
    return (
        f"All this was measured on {count} validation photographs, where one photograph is {100 / count:.3g} points of "
        f"accuracy{caution}. No weight was trained on them, but the best epoch, the temperature and the threshold were "
        "chosen on them."
    )
