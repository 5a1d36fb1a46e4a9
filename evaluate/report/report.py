"""report.html of an evaluation: what a sceptical reader checks first comes first.

Built from a folder alone (evaluation.json, gallery/*.png, curve.json where there is one), so that it can be made
again later. Doubts and failures come before the figures; what was not measured is said to be missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtex_edge import __version__
from medtex_edge.errors import DataError
from medtex_edge.evaluate.report import checks, tables
from medtex_edge.evaluate.report import summary as words
from medtex_edge.evaluate.report.figures import is_number, listed, read_facts, table, with_interval
from medtex_edge.evaluate.report.pictures import draw
from medtex_edge.evaluate.report.warnings import not_measured, warnings
from medtex_edge.files import atomic_write, storage
from medtex_edge.train.report import page as html
from medtex_edge.train.report.wording import MAP_LIMITS, MAP_READING, MODEL_NAMES, NO_DEVICE, SYNTHETIC

Facts = Mapping[str, Any]
_PNG = b"\x89PNG\r\n\x1a\n"
_OF_TEACHER = ("deletion_teacher", "insertion_teacher")
_PROPERTIES = ("sparsity", "max_sensitivity", "randomisation")
_ROLES = {
    "worst": "The worst maps",
    "best": "The best maps",
    "random": "By lot: drawn from all photographs before anyone looked",
}
_NOTHING_MISSING = "Of what this report knows to ask for, nothing is missing."


def write_evaluation_report(folder: Path) -> Path:
    """Write `folder`/report.html, one file that opens offline, and return its path.

    Reads evaluation.json, the gallery that it names and curve.json; writes plots/*.png beside it. Raises
    `DataError` where evaluation.json is missing or no JSON object, `StorageError` where the disk refuses.
    """
    evaluation = read_evaluation(folder)
    pictures = draw(evaluation, folder / "plots")
    name = str(evaluation.get("name") or folder.name)
    explanation, lesions = table(evaluation.get("explanation")), table(evaluation.get("lesions"))
    sections = [
        ("failures", "Failures", _cases(folder, evaluation, ("failure",))),
        ("summary", "In plain words", [html.bullets(words.summary(evaluation))]),
        ("answers", "The answers", _answers(table(evaluation.get("answer")), pictures)),
        ("explanation", "The explanation", _explanation(explanation)),
        ("lesions", "Against lesions marked by hand", _lesions(lesions)),
        ("checks", "Leakage and randomisation", _checks(explanation)),
        ("curve", "With fewer labels", _curve(evaluation, pictures)),
        ("ablation", "Beside other trainings", _ablation(evaluation, pictures)),
        ("cost", "What it costs", [tables.cost_table(table(evaluation.get("cost")))]),
        ("gallery", "Gallery", _cases(folder, evaluation, tuple(_ROLES))),
        ("reading", "How to read a map", [html.bullets(MAP_READING), html.bullets(MAP_LIMITS)]),
        ("missing", "What was not measured", [html.bullets(not_measured(evaluation) or [_NOTHING_MISSING])]),
        ("origin", "Where it came from", _provenance(evaluation)),
    ]
    kept = [(anchor, title, content) for anchor, title, parts in sections if (content := "".join(parts))]
    synthetic = table(evaluation.get("data")).get("synthetic") is True
    body = [
        f"<h1>{html.escape(name)}</h1>",
        html.paragraph(_subtitle(evaluation), "soft"),
        html.warning(SYNTHETIC) if synthetic else "",
        html.warning(NO_DEVICE),
        html.warning("Before you read on:", *doubts) if (doubts := warnings(evaluation)) else "",
        html.contents([(anchor, title) for anchor, title, _ in kept]),
        *(part for anchor, title, content in kept for part in (html.heading(title, anchor), content)),
        f"<footer>{html.paragraph(NO_DEVICE, 'soft')}</footer>",
    ]
    out = folder / "report.html"
    with atomic_write(out, "w") as file:
        file.write(html.page(f"{name}: evaluation", body))
    return out


def read_evaluation(folder: Path) -> dict[str, Any]:
    """evaluation.json, with the curve.json of the same folder where it holds none itself."""
    evaluation = read_facts(folder / "evaluation.json")
    if evaluation is None:
        raise DataError(
            f"{folder} holds no evaluation.json", hint="name a folder that `medtex-edge evaluate --out` wrote"
        )
    if "curve" not in evaluation and (found := read_facts(folder / "curve.json")):
        evaluation["curve"] = found
    return evaluation


def _subtitle(evaluation: Facts) -> str:
    subject, data = table(evaluation.get("subject")), table(evaluation.get("data"))
    said = [f"evaluation made by medtex-edge {__version__}"]
    if subject.get("student"):
        method = f", method {subject['method']}" if subject.get("method") else ""
        said.append(f"student {subject['student']}{method}, taught by {subject.get('teacher') or 'an unnamed teacher'}")
    if is_number(data.get("n")):
        said.append(f"{data['n']:.0f} photographs of {data.get('path') or '?'}, split {data.get('split') or '?'}")
    return "; ".join(said)


def _cases(folder: Path, evaluation: Facts, roles: Sequence[str]) -> list[str]:
    entries = [table(entry) for entry in listed(evaluation.get("gallery"))]
    parts = []
    for role in roles:
        chosen = [_case(folder, entry) for entry in entries if entry.get("role") == role]
        if chosen:
            parts += [html.subheading(_ROLES[role]) if role in _ROLES else "", html.cases(chosen)]
    if roles == ("failure",):
        parts.insert(0, html.bullets(words.failures(evaluation)))
    elif parts:
        parts.insert(0, html.paragraph(_GALLERY_NOTE, "soft"))
    return parts


_GALLERY_NOTE = (
    "Left to right: the photograph, its lesions as marked by hand where there are any, our saliency on the scale 0 to "
    "1 of every picture, and Grad-CAM, which has no scale of its own and is stretched from its least to its greatest "
    "value. Failures stand at the head of this page."
)


def _case(folder: Path, entry: Facts) -> str:
    caption = ": ".join(str(entry[key]) for key in ("key", "title") if entry.get(key))
    path = folder / "gallery" / Path(str(entry.get("file") or "")).name
    png = b""
    # Only what lies in the gallery: the file may name anything on this disk.
    if str(entry.get("file")) == f"gallery/{path.name}" and path.is_file() and not path.is_symlink():
        with storage(path, "read"):
            png = path.read_bytes()
    if not png.startswith(_PNG):
        return html.paragraph(f"{caption} (its picture is missing)", "soft")
    return html.figure(png, caption, f"photograph and maps of {caption}")


def _answers(answer: Facts, pictures: Mapping[str, bytes]) -> list[str]:
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
    shown = [html.figure(pictures[key], text, text) for key, text in captions.items() if key in pictures]
    parts = [tables.answer_table(models), html.interval_chart(bars, "AUC of referable, with 95 % interval")]
    parts += [html.side_by_side(shown)]
    for column, groups in table(answer.get("groups")).items():
        parts += [html.subheading(f"By {column}"), tables.answer_table(table(groups), compete=False)]
    return parts


def _explanation(explanation: Facts) -> list[str]:
    judge = table(explanation.get("evaluator"))
    said = []
    if judge.get("backbone"):
        sentence = f"The judge is an independent evaluator ({judge['backbone']}, seed {judge.get('seed', '?')})"
        sentence += ", taught on photographs under random masks to give the teacher's answer on the whole photograph"
        if is_number(judge.get("auc_referable")):
            sentence += f"; its own AUC is {judge['auc_referable']:.3f}"
        said.append(sentence + ".")
    if judge.get("note"):
        said.append(str(judge["note"]))
    main = tables.contender_table(explanation, but=(*_OF_TEACHER, *_PROPERTIES))
    properties = tables.contender_table(explanation, only=_PROPERTIES)
    teacher = tables.contender_table(explanation, only=_OF_TEACHER)
    doubt = "The teacher never saw masked photographs, and may answer nonsense on them: these figures prove little."
    return [
        *(html.paragraph(line) for line in said if main),
        main,
        html.paragraph(_TABLE_NOTE, "soft") if main else "",
        *((html.subheading("Properties of the maps, which no judge decides"), properties) if properties else ()),
        *((html.subheading("Judged by the teacher"), html.paragraph(doubt), teacher) if teacher else ()),
    ]


_TABLE_NOTE = (
    "Arrows say which way is better; a star marks the best of a column. Rivals stand with the best of their layers in "
    "each column, which is kinder to them than any choice of one layer. Controls are maps that do not look at the "
    "photograph they are scored on."
)


def _lesions(lesions: Facts) -> list[str]:
    main, kinds = tables.contender_table(lesions), tables.kinds_tables(lesions)
    tolerance = table(lesions.get("tolerance"))
    said = f"{lesions.get('n', '?')} photographs of {lesions.get('folder') or '?'}."
    if is_number(tolerance.get("dilation")) and is_number(tolerance.get("pointing")):
        said += (
            f" Masks are dilated by {tolerance['dilation']:g} pixels at 224; the brightest point may lie "
            f"{tolerance['pointing']:g} pixels from a lesion."
        )
    parts = [html.paragraph(said, "soft"), main, html.paragraph(_TABLE_NOTE, "soft")] if main else []
    return [*parts, *((html.subheading("By kind of lesion"), kinds) if kinds else ())]


def _checks(explanation: Facts) -> list[str]:
    return [html.bullets([line for line in (checks.leakage(explanation), checks.randomisation(explanation)) if line])]


def _curve(evaluation: Facts, pictures: Mapping[str, bytes]) -> list[str]:
    said = html.bullets(checks.curve(table(evaluation.get("curve"))))
    caption = "Lines are means over the seeds, bands their range, dots single runs; each step right has more labels."
    return [html.figure(pictures["curve"], caption, "less-data curve") if "curve" in pictures else "", said]


def _ablation(evaluation: Facts, pictures: Mapping[str, bytes]) -> list[str]:
    rows = [table(row) for row in listed(table(evaluation.get("ablation")).get("rows"))]
    caption = "Each bar is the mean over the seeds, each dot one of them; the first is the whole method."
    picture = html.figure(pictures["ablation"], caption, "ablation") if "ablation" in pictures else ""
    return [html.bullets(checks.ablation(evaluation)), picture, tables.ablation_table(rows)]


def _provenance(evaluation: Facts) -> list[str]:
    simple = []
    for part in ("subject", "data", "provenance"):
        for key, value in table(evaluation.get(part)).items():
            if value is not None and not isinstance(value, dict):
                shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                simple.append([f"{part}: {key.replace('_', ' ')}", shown])
    everything = {key: value for key, value in evaluation.items() if key != "gallery"}
    return [
        html.table(["", ""], simple, numbers=False),
        html.details("the command", str(evaluation["command"])) if evaluation.get("command") else "",
        html.details("evaluation.json: everything that was measured", json.dumps(everything, indent=1)),
    ]
