"""The less-data curve: the quality of each method with a fraction of the labels, over several seeds.

Every point is one training with its own process and folder. A finished point is never trained again; a training that
was killed resumes from its checkpoint. All points take the same number of steps. With one seed, the labels of a small
fraction lie in every larger one, and all methods get the same labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import SettingsError
from medtex_edge.train.config import METHODS, TrainConfig, config_from
from medtex_edge.train.curve.jobs import Job, run_jobs
from medtex_edge.train.data.dataset import Dataset
from medtex_edge.train.data.split import read_splits
from medtex_edge.train.data.subset import Subset, labelled
from medtex_edge.train.models.teacher import FileOptions
from medtex_edge.train.prepare import DataSource

OTHERS = "+unlabelled"  # suffix of a line that also uses the photographs outside the fraction, without their labels
TITLES = {
    "supervised": "supervised", "hinton": "Hinton", "vid": "VID", "paper": "MED-TEX as in the paper",
    "medtex": "ours", "masked": "ours, masked student alone",
}  # fmt: skip


@dataclass(frozen=True)
class CurvePlan:
    """The trainings of a curve. `settings` are those of every training; `teacher` may contain `{seed}`."""

    source: DataSource
    teacher: str
    teacher_options: FileOptions
    methods: tuple[str, ...]
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    steps: int = 0  # of every point; 0: those of the epochs in `settings` with all photographs

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in METHODS:
                raise SettingsError(f"methods: expected some of {', '.join(METHODS)}, got {name!r}")
        if not self.methods or not self.seeds or not self.fractions:
            raise SettingsError("methods, seeds, fractions: at least one of each is needed")
        if not all(0 < f <= 1 for f in self.fractions):
            raise SettingsError(f"fractions: expected more than 0 up to 1, got {', '.join(map(str, self.fractions))}")


@dataclass(frozen=True)
class CurvePoint:
    """One point of the plot: a method, with or without unlabelled photographs, at one fraction and seed."""

    line: str
    config: TrainConfig
    subset: Subset


def measure_curve(
    plan: CurvePlan, dataset: Dataset, out: Path, *, jobs: int, threads: int, on_progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Run the unfinished trainings and return the content of `curve.json`.

    on_progress(finished, all): called after each training. Raises `DataError` with the log of a failed training.
    """
    if "{seed}" not in plan.teacher and dataset.val_drawn:
        # Every seed draws its own validation photographs, and one teacher would have been trained on some of them.
        raise SettingsError(
            "the data gives no val split: each seed draws its own, and one teacher was trained on those of other seeds",
            hint="give a split column, or a teacher per seed: --teacher runs/teacher-{seed}",
        )
    labels = np.array([sample.label for sample in dataset.of("train")], np.int64)
    points = plan_points(plan, labels)
    work = {point: _job(point, plan, dataset, out) for point in points}
    run_jobs(list(dict.fromkeys(work.values())), jobs=jobs, threads=threads, on_progress=on_progress)
    results = {point: job.result() for point, job in work.items()}
    methods: dict[str, Any] = {}
    for point, metrics in results.items():
        line = methods.setdefault(point.line, {"title": line_title(point.line), "points": []})
        trained = _training_labels(dataset, work[point].folder)
        kept = len(labelled(trained, point.subset.fraction, point.subset.seed))
        line["points"].append(
            {
                "fraction": point.subset.fraction,
                "seed": point.subset.seed,
                "n_labelled": kept,
                "n_unlabelled": len(trained) - kept if point.subset.others else 0,
                "auc_referable": metrics["student"]["auc_referable"],
                "accuracy": metrics["student"]["accuracy"],
            }
        )
    teacher = {str(p.subset.seed): metrics["teacher"]["auc_referable"] for p, metrics in results.items()}
    return {
        "kind": "curve",
        "fractions": list(plan.fractions),
        "seeds": list(plan.seeds),
        "methods": methods,
        "teacher": {"auc_referable": teacher},
        "selected_on": "val",
        "steps": total_epochs(points[0].config) * math.ceil(len(labels) / points[0].config.batch),
        "trainings": len(set(work.values())),
        "data_fingerprint": dataset.fingerprint,
        "note": "the teacher may know all labels; the students' epochs were chosen on the photographs measured here",
    }


def _training_labels(dataset: Dataset, run: Path) -> npt.NDArray[np.int64]:
    """(N,) the labels of the photographs that a point was trained on, whose seed may have drawn its own val split."""
    known = {sample.key: sample.label for sample in dataset.samples}
    return np.array([known.get(key, -1) for key in read_splits(run).train], np.int64)


def plan_points(plan: CurvePlan, labels: Any) -> list[CurvePoint]:
    """All points, in the order of lines, fractions, seeds. `labels`: (N,) int64 of the training photographs."""
    config = config_from(TrainConfig, dict(plan.settings))
    if plan.steps:
        config = with_steps(config, plan.steps, len(labels))
    lines = []
    for method in dict.fromkeys(plan.methods):
        # The supervised student learns from labels alone; the others learn from the teacher's predictions as well.
        lines += [(method, False)] if method == "supervised" else [(method, False), (method, True)]
    return [
        CurvePoint(
            method + OTHERS * others,
            _of_method(config, method, seed),
            Subset(fraction, seed, others),
        )
        for method, others in lines
        for fraction in sorted(set(plan.fractions))
        for seed in plan.seeds
    ]


def _of_method(config: TrainConfig, method: str, seed: int) -> TrainConfig:
    values = {k: v for k, v in asdict(config).items() if k not in ("weights", "baseline")}
    made = TrainConfig(**{**values, "method": method, "seed": seed})
    if method == "masked":
        return replace(made, epochs=total_epochs(made), joint_epochs=0)
    return made


def total_epochs(config: TrainConfig) -> int:
    """Passes over the photographs, all phases together."""
    return config.epochs + config.joint_epochs


def with_steps(config: TrainConfig, steps: int, photographs: int) -> TrainConfig:
    """The same proportions of the phases, with the number of whole epochs that is nearest to `steps`."""
    wanted = max(round(steps / math.ceil(photographs / config.batch)), 1)
    separate = round(wanted * config.epochs / total_epochs(config))
    return replace(config, epochs=separate, joint_epochs=wanted - separate)


def _job(point: CurvePoint, plan: CurvePlan, dataset: Dataset, out: Path) -> Job:
    """The training of a point. Points whose trainings are equal share one."""
    subset, unlabelled = point.subset, any(sample.label < 0 for sample in dataset.of("train"))
    if subset.others and not point.config.weights.label:
        subset = replace(subset, fraction=1.0)  # the method uses no label: every fraction is the same training
    if subset.fraction == 1 and not unlabelled:
        subset = replace(subset, others=False)
    name = f"{point.config.method}{OTHERS * subset.others}-{subset.fraction:g}-seed{subset.seed}"
    return Job(
        out / "points" / name,
        {
            "config": asdict(point.config),
            "subset": asdict(subset),
            "data": str(plan.source.path.resolve()),
            "options": asdict(plan.source.options) | {"accept": sorted(plan.source.options.accept)},
            "referable": plan.source.referable,
            "fingerprint": dataset.fingerprint,
            "teacher": plan.teacher.replace("{seed}", str(subset.seed)),
            "teacher_options": asdict(plan.teacher_options),
        },
    )


def line_title(line: str) -> str:
    """The title of a line in the legend."""
    method = line.removesuffix(OTHERS)
    return TITLES[method] + (", all photographs" if line.endswith(OTHERS) else "")


def differences(
    curve: dict[str, Any], ours: str, baseline: str, measure: str = "auc_referable"
) -> dict[float, list[float]]:
    """fraction -> ours minus the baseline, one number per seed that both have."""
    mine, theirs = (
        {(p["fraction"], p["seed"]): p[measure] for p in curve["methods"][name]["points"]} for name in (ours, baseline)
    )
    found: dict[float, list[float]] = {}
    for key, value in mine.items():
        other = theirs.get(key)
        if value is not None and other is not None:
            found.setdefault(key[0], []).append(value - other)
    return found
