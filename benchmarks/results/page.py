"""docs/evidence/results.md from the files of `benchmarks.results`: figures are read from files, never typed."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results.claims import (
    CURVE_SIZE,
    MapKey,
    aucs,
    best_layer,
    by_fraction,
    claims,
    explained,
    over,
    paired,
    with_fewer_labels,
)
from benchmarks.retinamnist.table import table
from medtex_edge.files import atomic_write

STUDENTS = {
    "teacher": "teacher (EfficientNet-Lite2)",
    "medtex": "**ours, under its own mask**",
    "medtex_whole": "ours, whole picture",
    "supervised": "supervised student",
    "hinton": "Hinton distillation",
    "vid": "VID",
    "paper": "MED-TEX as published",
    "slim": "ours, slim",
}
ABOUT = """\
`make results` writes this page from its own trainings and measurements. No figure is typed in. The data are IDRiD, 318
photographs for training and 80 for validation (a reconstructed part of the set, so no official IDRiD figures).
Grades from 2 are referable. Explanations are measured on 34 photographs with lesion masks, most of which are also among
the 318. Epoch, temperature and threshold are chosen on the 80. `mean (a, b, c)` is the mean over the seeds, then each
seed. *Paired* is the mean difference over the seeds, with its 95 % interval by Student's t."""
MAPS = (
    "pixel_auc", "pointing", "relevance", "dice", "deletion_referable", "insertion_referable", "deletion", "insertion",
    "road",
)  # fmt: skip

DROPPED = {"roc", "gallery", "kinds", "bins"}  # of an evaluation: pictures and curves, long and not on the page


def keep_figures(folder: Path, figures: Path) -> None:
    """Copy what a finished job measured to FIGURES/NAME.json, with when, where and by which commit."""
    target = figures / f"{folder.name}.json"
    found: dict[str, Any] = {}
    for name in ("metrics.json", "evaluation.json", "curve.json", "retinamnist.json"):
        found.update(_without(_json(folder / name)))
    origin = found.pop("provenance", None) or _json(folder / "model.json").get("provenance", {})
    found["origin"] = {k: v for k, v in origin.items() if k != "command"} | {"commit": _commit()}
    found.pop("command", None)
    if target.exists():
        old = _json(target)
        # Measured once, kept as it was: only the commit of another day would differ.
        if {k: v for k, v in old.items() if k != "origin"} == {k: v for k, v in found.items() if k != "origin"}:
            return
    figures.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, "w") as file:
        file.write(json.dumps(_rounded(found), indent=1, sort_keys=True) + "\n")


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        # A path is the machine's own business.
        return {k: _without(v) for k, v in value.items() if k not in DROPPED and k not in ("path", "folder", "masks")}
    return [_without(v) for v in value] if isinstance(value, list) else value


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def write_page(figures: Path, page: Path, seeds: int, missing: Sequence[str]) -> None:
    """Write the page whole or not at all; the page names what was not measured."""
    runs = {path.stem: _json(path) for path in figures.glob("*.json")}
    evaluations = [runs.get(f"evaluation-{seed}", {}) for seed in range(seeds)]
    lines = [
        "# Results on real photographs",
        "",
        *ABOUT.splitlines(),
        "",
        *([f"**Not finished: {', '.join(missing)}.**", ""] if missing else []),
        *_targets(runs, evaluations, seeds),
        *_students(runs, seeds),
        *_explanations(evaluations),
        *_checks(evaluations),
        *_cost(evaluations),
        *_labels(runs, seeds),
        *_curve(runs.get("curve")),
        *_retinamnist(runs.get("retinamnist")),
        *_ablation(runs),
        *_time(runs),
    ]
    with atomic_write(page, "w") as file:
        file.write("\n".join(lines).rstrip() + "\n")


def _targets(runs: dict[str, Any], evaluations: Sequence[Any], seeds: int) -> list[str]:
    rows = [
        [c.target, c.measured, {True: "yes", False: "**no**", None: "-"}[c.met]]
        for c in claims(runs, evaluations, seeds)
    ]
    return ["## Targets and measured values", "", *_table(["target", "measured", "met"], rows), ""] if rows else []


def _students(runs: dict[str, Any], seeds: int) -> list[str]:
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in STUDENTS}
    for seed in range(seeds):
        for name in STUDENTS:
            run = runs.get(f"{'medtex' if name == 'medtex_whole' else name}-{seed}")
            if run:
                key = {"teacher": "teacher", "medtex_whole": "student_whole_picture"}.get(name, "student")
                found[name][seed] = run[key]
    rows = []
    for name, title in STUDENTS.items():
        by_seed = found[name]
        if not by_seed:
            continue
        aucs = {seed: row["auc_referable"] for seed, row in by_seed.items()}
        ours = {seed: _ours_by_the_same_teacher(runs, name, seed) for seed in aucs}
        apart = paired([mine[0] - aucs[seed] for seed, mine in ours.items() if mine])
        if others := {f"{mine[0]:.3f}" for mine in ours.values() if mine and mine[1] == "full"}:
            apart += f", where ours by the same teacher has {', '.join(sorted(others))}"
        intervals = [row["auc_referable_interval"] for row in by_seed.values() if row["auc_referable_interval"]]
        low, high = (np.mean([i[k] for i in intervals]) for k in (0, 1))
        rows.append([
            title, over(aucs.values()), f"{low:.3f}-{high:.3f}", over((r["accuracy"] for r in by_seed.values()), 2),
            over((r["qwk"] for r in by_seed.values()), 2), "" if name.startswith("medtex") else apart,
        ])  # fmt: skip
    head = ["", "AUC referable", "mean 95 % interval", "accuracy", "kappa", "ours minus this, paired"]
    return ["## The answer", "", *_table(head, rows), ""]


def _ours_by_the_same_teacher(runs: dict[str, Any], name: str, seed: int) -> tuple[float, str] | None:
    """Our AUC by the same teacher, and its run. A baseline trained on another machine had another teacher."""
    baseline = runs.get(f"{name}-{seed}") or {}
    for mine in ("medtex", "full"):
        run = runs.get(f"{mine}-{seed}")
        if run and (name == "teacher" or baseline.get("teacher") == run.get("teacher")):
            return float(run["student"]["auc_referable"]), mine
    return None


def _explanations(evaluations: Sequence[Any]) -> list[str]:
    scores = explained(evaluations)
    if not scores:
        return ["## The explanation", "", "Not measured.", ""]
    order = {"ours": 0, "control": 1, "rival": 2}

    def rank(key: MapKey) -> tuple[int, float]:
        best = best_layer(scores[key], "pixel_auc")
        return order[key[0]], -(best.mean if best else 0.0)

    rows = []
    for key in sorted(scores, key=rank):
        kind, name, of = key
        title = f"{name} of the {of}" if kind == "rival" else name.replace("_", " ")
        cells = []
        for measure in MAPS:
            best = best_layer(scores[key], measure)
            cells.append("-" if best is None else f"{best.mean:.3f}" + (f" ({best.where})" if best.where else ""))
        rows.append([f"**{title}**" if kind == "ours" else title, *cells])
    return [
        "## The explanation", "",
        "Means over the seeds. Every baseline map stands at its best layer for the measure and seed, in brackets. "
        "Deletion (less is better), insertion and ROAD are by the independent evaluator. *Referable* means: its "
        "probability of the referable classes, on the photographs that the teacher calls referable. A map of disease "
        "has little to say on why a photograph is healthy: over all photographs the two measure something else.", "",
        *_table(["map", *(m.replace("_", " ") for m in MAPS)], rows), "",
    ]  # fmt: skip


def _checks(evaluations: Sequence[Any]) -> list[str]:
    rows = []
    for seed, evaluation in enumerate(evaluations):
        explanation = evaluation.get("explanation")
        if not explanation:
            continue
        ours: dict[str, Any] = next((r["measures"] for r in explanation["rows"] if r["kind"] == "ours"), {})
        leak = explanation.get("leakage") or {}

        def value(key: str, measures: dict[str, Any] = ours) -> str:
            found = measures.get(key) or {}
            return _number(found.get("value"))

        rows.append([
            str(seed), value("fidelity_verdict_referable"), value("fidelity_verdict"), value("fidelity_label"),
            value("area_referable"), value("area"), value("max_sensitivity"), value("randomisation"),
            " / ".join(_number(leak.get(f"auc_{kind}")) for kind in ("map", "area_matched", "shuffled")),
            {True: "yes", False: "no", None: "-"}[leak.get("readable")],
        ])  # fmt: skip
    head = [
        "seed", "verdict kept, referable", "verdict kept", "label kept", "area, referable", "area", "max-sensitivity",
        "randomisation", "label from mask / area-matched / shuffled", "leaks",
    ]  # fmt: skip
    return ["### Fidelity, by the independent evaluator, and sanity", "", *_table(head, rows), ""] if rows else []


def _cost(evaluations: Sequence[Any]) -> list[str]:
    cost = next((e["cost"] for e in evaluations if e.get("cost")), None)
    if cost is None:
        return []
    rows = [
        [part, f"{cost[part]['macs'] / 1e6:.0f} M", f"{cost[part]['parameters'] / 1e6:.2f} M"]
        for part in ("teacher", "student", "explainer", "graph")
        if cost.get(part)
    ]
    text = [
        f"{title}: {_number(cost.get(key))}."
        for key, title in (
            ("student_over_teacher", "Student over teacher"), ("explainer_over_student", "Explainer over student"),
        )
    ]  # fmt: skip
    return ["## Cost", "", *_table(["", "multiply-adds", "parameters"], rows), "", " ".join(text), ""]


def _labels(runs: dict[str, Any], seeds: int) -> list[str]:
    supervised = with_fewer_labels(runs, seeds)
    ours = aucs(runs, "medtex", seeds)
    if not supervised or not ours:
        return []
    alone = [over(values.values()) for values in supervised.values()]
    apart = [paired([ours[s] - values[s] for s in values if s in ours]) for values in supervised.values()]
    rows = [["supervised", *alone], ["ours", *([over(ours.values())] * len(apart))], ["ours minus supervised", *apart]]
    return [
        "## Less data", "",
        "AUC referable with a fraction of the labels, each student trained in as many steps. Ours is the same student "
        "throughout: it learns from the teacher's answers on all photographs, and uses no label. The teacher has "
        "seen them all.", "",
        *_table(["labels", *(f"{fraction:.0%}" for fraction in supervised)], rows), "",
    ]  # fmt: skip


def _curve(curve: Any) -> list[str]:
    if not curve:
        return []
    points = by_fraction(curve)
    rows = []
    for method, found in curve["methods"].items():
        cells = []
        for fraction, values in points[method].items():
            text = over(values.values())
            if method != "supervised" and "supervised" in points:
                against = points["supervised"][fraction]
                text += f"; {paired([values[s] - against[s] for s in values if s in against])}"
            cells.append(text)
        rows.append([found["title"], *cells])
    head = ["AUC referable; difference to supervised", *(f"{fraction:.0%}" for fraction in curve["fractions"])]
    return [
        "### In short trainings", "",
        f"{curve.get('steps', '?')} steps at {CURVE_SIZE} px, and of ours the student alone, without explainer.", "",
        *_table(head, rows), "",
    ]  # fmt: skip


def _retinamnist(found: Any) -> list[str]:
    return ["## RetinaMNIST", "", *table(found).splitlines(), ""] if found else []


def _ablation(runs: dict[str, Any]) -> list[str]:
    titles = {
        "full": "all terms",
        "vid": "VID: features and labels",
        "no_local": "without L_local",
        "no_mid": "without L_mid",
        "no_budget": "without the budget",
        # Not a job: trained with the next row, since the teacher of the others was gone by then.
        "full_again": "all terms, by the next row's teacher",
        "no_tv": "without total variation",
        "paper": "MED-TEX as published",
    }
    rows = []
    for name, title in titles.items():
        run = runs.get(f"{name}-0")
        if run:
            maps = run.get("saliency") or {}
            origin = run.get("origin") or {}
            made = [str(origin.get("created", ""))[:10], str(origin.get("device", "")).rpartition(", ")[2]]
            rows.append([
                title, _number(run["teacher"]["auc_referable"]), _number(run["student"]["auc_referable"]),
                _number(run["student_whole_picture"]["auc_referable"]), _number(maps.get("pixel_auc")),
                _number(maps.get("pointing")), _number(maps.get("mean_area")), ", ".join(filter(None, made)),
            ])  # fmt: skip
    head = ["seed 0", "teacher", "AUC under its mask", "whole picture", "pixel AUC", "pointing", "mean area", "trained"]
    text = "Rows are to be compared where teacher, day and arithmetic are the same."
    return ["## Ablation", "", text, "", *_table(head, rows), ""] if len(rows) > 1 else []


def _time(runs: dict[str, Any]) -> list[str]:
    seconds = [float(run["origin"]["seconds"]) for run in runs.values() if (run.get("origin") or {}).get("seconds")]
    commits = sorted({run["origin"]["commit"] for run in runs.values() if run.get("origin")})
    text = f"{len(seconds)} trainings, {sum(seconds) / 60:.0f} min of wall clock in all, two at once on two cores."
    return ["## Time", "", text, f"Commits: {', '.join(commits)}.", ""]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _number(value: Any) -> str:
    return "-" if value is None else f"{float(value):.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
