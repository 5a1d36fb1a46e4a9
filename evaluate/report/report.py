"""report.html of an evaluation: what a sceptical reader checks first comes first.

Built from a folder alone (evaluation.json, gallery/*.png, curve.json where there is one), so that it can be made
again later. Doubts and failures come before the figures; what was not measured is reported as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medtex_edge import __version__
from medtex_edge.errors import DataError
from medtex_edge.evaluate.report import summary, tables
from medtex_edge.evaluate.report.plots import draw
from medtex_edge.evaluate.report.warnings import not_measured, warnings
from medtex_edge.files import atomic_write, storage
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.report import page as html
from medtex_edge.train.report.figures import is_number, listed, read_json_object, table, with_interval
from medtex_edge.train.report.measures import MEASURES, MODEL_NAMES
from medtex_edge.train.report.report import MAP_LIMITS, MAP_READING, NO_DEVICE, SYNTHETIC

_PNG = b"\x89PNG\r\n\x1a\n"
_OF_TEACHER = ("deletion_teacher", "insertion_teacher")
_PROPERTIES = ("sparsity", "max_sensitivity", "randomisation")
_ROLES = {
    "worst": "The worst maps",
    "best": "The best maps",
    "random": "A random sample of all photographs, drawn before anything was measured",
}
_NOTHING_MISSING = "Everything that this report can show was measured."


def write_evaluation_report(folder: Path) -> Path:
    """Write `folder`/report.html, one file that opens offline, and return its path.

    Reads evaluation.json, the gallery that it names and curve.json; writes plots/*.png. Raises
    `DataError` where evaluation.json is missing or no JSON object, `StorageError` where the disk refuses.
    """
    evaluation = read_evaluation(folder)
    pictures = draw(evaluation, folder / "plots")
    name = str(evaluation.get("name") or folder.name)
    explanation, lesions = table(evaluation.get("explanation")), table(evaluation.get("lesions"))
    sections = [
        ("failures", "Failures", _cases(folder, evaluation, ("failure",))),
        ("summary", "Summary", [html.bullets(summary.summary(evaluation))]),
        ("answers", "The answers", _answers(table(evaluation.get("answer")), pictures)),
        ("explanation", "The explanation", _explanation(explanation)),
        ("lesions", "Against lesions marked by hand", _lesions(lesions)),
        ("checks", "Leakage and randomisation", _checks(explanation)),
        ("curve", "With fewer labels", _curve(evaluation, pictures)),
        ("ablation", "Compared with other trainings", _ablation(evaluation, pictures)),
        ("cost", "What it costs", [tables.cost_table(table(evaluation.get("cost")))]),
        ("gallery", "Gallery", _cases(folder, evaluation, tuple(_ROLES))),
        ("reading", "How to read a map", [html.bullets(MAP_READING), html.bullets(MAP_LIMITS)]),
        ("missing", "What was not measured", [html.bullets(not_measured(evaluation) or [_NOTHING_MISSING])]),
        ("origin", "Origin", _provenance(evaluation)),
    ]
    kept = [(anchor, title, content) for anchor, title, parts in sections if (content := html.join(parts))]
    synthetic = table(evaluation.get("data")).get("synthetic") is True
    body = [
        html.title(name),
        html.paragraph(_subtitle(evaluation), "soft"),
        html.warning(SYNTHETIC) if synthetic else html.EMPTY,
        html.warning(NO_DEVICE),
        html.warning("Before you read on:", *doubts) if (doubts := warnings(evaluation)) else html.EMPTY,
        html.contents([(anchor, title) for anchor, title, _ in kept]),
        *(part for anchor, title, content in kept for part in (html.heading(title, anchor), content)),
        html.footer(NO_DEVICE),
    ]
    out = folder / "report.html"
    with atomic_write(out, "w") as file:
        file.write(html.page(f"{name}: evaluation", body))
    return out


def read_evaluation(folder: Path) -> dict[str, Any]:
    """evaluation.json, with the curve.json of the same folder where it holds none itself."""
    evaluation = read_json_object(folder / "evaluation.json")
    if evaluation is None:
        raise DataError(
            f"{folder} holds no evaluation.json", hint="name a folder that `medtex-edge evaluate --out` wrote"
        )
    if "curve" not in evaluation and (found := read_json_object(folder / "curve.json")):
        evaluation["curve"] = found
    return evaluation


def _subtitle(evaluation: JsonObject) -> str:
    subject, data = table(evaluation.get("subject")), table(evaluation.get("data"))
    parts = [f"evaluation made by medtex-edge {__version__}"]
    if subject.get("student"):
        method = f", method {subject['method']}" if subject.get("method") else ""
        parts.append(
            f"student {subject['student']}{method}, taught by {subject.get('teacher') or 'an unnamed teacher'}"
        )
    if is_number(data.get("n")):
        parts.append(f"{data['n']:.0f} photographs of {data.get('path') or '?'}, split {data.get('split') or '?'}")
    return "; ".join(parts)


def _cases(folder: Path, evaluation: JsonObject, roles: Sequence[str]) -> list[Markup]:
    entries = [table(entry) for entry in listed(evaluation.get("gallery"))]
    parts = []
    for role in roles:
        chosen = [_case(folder, entry) for entry in entries if entry.get("role") == role]
        if chosen:
            parts += [html.subheading(_ROLES[role]) if role in _ROLES else html.EMPTY, html.cases(chosen)]
    if roles == ("failure",):
        parts.insert(0, html.bullets(summary.failures(evaluation)))
    elif parts:
        parts.insert(0, html.paragraph(_GALLERY_NOTE, "soft"))
    return parts


_GALLERY_NOTE = (
    "Left to right: the photograph, its lesions as marked by hand where there are any, our saliency on the scale 0 to "
    "1 of every picture, and Grad-CAM, which has no scale of its own and is stretched from its least to its greatest "
    "value. Failures are at the head of this page."
)


def _case(folder: Path, entry: JsonObject) -> Markup:
    caption = ": ".join(str(entry[key]) for key in ("key", "title") if entry.get(key))
    path = folder / "gallery" / Path(str(entry.get("file") or "")).name
    png = b""
    # Only files of the gallery: the entry may name anything on this disk.
    if str(entry.get("file")) == f"gallery/{path.name}" and path.is_file() and not path.is_symlink():
        with storage(path, "read"):
            png = path.read_bytes()
    if not png.startswith(_PNG):
        return html.paragraph(f"{caption} (its picture is missing)", "soft")
    return html.figure(png, caption, f"photograph and maps of {caption}")


def _answers(answer: JsonObject, pictures: Mapping[str, bytes]) -> list[Markup]:
    models = table(answer.get("models"))
    bars = [
        html.Interval(MODEL_NAMES.get(name, name), found.value, found.low, found.high)
        for name, values in models.items()
        if (found := with_interval(table(values), "auc_referable")) and found.low is not None and found.high is not None
    ]
    captions = {
        "roc": "ROC of the referable probability; the operating point with its 95 % intervals",
        "reliability": "Reliability of the student: stated against measured frequencies",
        "confusion": "Confusion matrix of the student: labels down, answers across",
    }
    plots = [html.figure(pictures[key], text, text) for key, text in captions.items() if key in pictures]
    parts = [
        tables.answer_table(models),
        html.interval_chart(bars, f"{MEASURES['auc_referable'].title}, with 95 % interval"),
    ]
    parts += [html.side_by_side(plots)]
    for column, groups in table(answer.get("groups")).items():
        parts += [html.subheading(f"By {column}"), tables.answer_table(table(groups), compete=False)]
    return parts


def _explanation(explanation: JsonObject) -> list[Markup]:
    evaluator = table(explanation.get("evaluator"))
    remarks = []
    if evaluator.get("backbone"):
        network = f"{evaluator['backbone']}, seed {evaluator.get('seed', '?')}"
        sentence = f"The maps are measured by an independent evaluator ({network})"
        sentence += ", taught on photographs under random masks to give the teacher's answer on the whole photograph"
        if is_number(evaluator.get("auc_referable")):
            sentence += f"; its own AUC is {evaluator['auc_referable']:.3f}"
        remarks.append(sentence + ".")
    if evaluator.get("note"):
        remarks.append(str(evaluator["note"]))
    main = tables.contender_table(explanation, but=(*_OF_TEACHER, *_PROPERTIES))
    properties = tables.contender_table(explanation, only=_PROPERTIES)
    teacher = tables.contender_table(explanation, only=_OF_TEACHER)
    doubt = (
        "The teacher was not trained on masked photographs and may answer nonsense on them. These figures prove little."
    )
    return [
        *(html.paragraph(line) for line in remarks if main),
        main,
        html.paragraph(_TABLE_NOTE, "soft") if main else html.EMPTY,
        *((html.subheading("Properties of the maps, which need no evaluator"), properties) if properties else ()),
        *((html.subheading("Measured by the teacher"), html.paragraph(doubt), teacher) if teacher else ()),
    ]


_TABLE_NOTE = (
    "Arrows show the better direction; a star marks the best of a column. Each baseline is given with the best of its "
    "layers in each column, which favours it over any choice of one layer. Controls are maps that do not depend on the "
    "photograph they are scored on."
)


def _lesions(lesions: JsonObject) -> list[Markup]:
    main, kinds = tables.contender_table(lesions), tables.kinds_tables(lesions)
    tolerance = table(lesions.get("tolerance"))
    sample = f"{lesions.get('n', '?')} photographs of {lesions.get('folder') or '?'}."
    if is_number(tolerance.get("dilation")) and is_number(tolerance.get("pointing")):
        sample += (
            f" Masks are dilated by {tolerance['dilation']:g} pixels at 224; the brightest point may lie "
            f"{tolerance['pointing']:g} pixels from a lesion."
        )
    parts = [html.paragraph(sample, "soft"), main, html.paragraph(_TABLE_NOTE, "soft")] if main else []
    return [*parts, *((html.subheading("By kind of lesion"), kinds) if kinds else ())]


def _checks(explanation: JsonObject) -> list[Markup]:
    return [html.bullets([line for line in (summary.leakage(explanation), summary.randomisation(explanation)) if line])]


def _curve(evaluation: JsonObject, pictures: Mapping[str, bytes]) -> list[Markup]:
    sentences = html.bullets(summary.curve(table(evaluation.get("curve"))))
    caption = "Lines are means over the seeds, bands their range, dots single runs; each step right has more labels."
    return [
        html.figure(pictures["curve"], caption, "less-data curve") if "curve" in pictures else html.EMPTY,
        sentences,
    ]


def _ablation(evaluation: JsonObject, pictures: Mapping[str, bytes]) -> list[Markup]:
    rows = [table(row) for row in listed(table(evaluation.get("ablation")).get("rows"))]
    caption = "Each bar is the mean over the seeds, each dot one of them; the first is the whole method."
    picture = html.figure(pictures["ablation"], caption, "ablation") if "ablation" in pictures else html.EMPTY
    return [html.bullets(summary.ablation(evaluation)), picture, tables.ablation_table(rows)]


def _provenance(evaluation: JsonObject) -> list[Markup]:
    simple = []
    for part in ("subject", "data", "provenance"):
        for key, value in table(evaluation.get(part)).items():
            if value is not None and not isinstance(value, dict):
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                simple.append([f"{part}: {key.replace('_', ' ')}", text])
    everything = {key: value for key, value in evaluation.items() if key != "gallery"}
    return [
        html.table(["", ""], simple, numbers=False),
        html.details("the command", str(evaluation["command"])) if evaluation.get("command") else html.EMPTY,
        html.details("evaluation.json: everything that was measured", json.dumps(everything, indent=1)),
    ]
