"""The stages as functions: the parameters are the commands' options, with the same names and defaults.

A test compares every parameter with its option. None stands for the default that the option's help names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtex_edge.api.calling import call

AnyPath = str | os.PathLike[str]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class TrainResult:
    """What `train` leaves: `run`, the folder with the weights, its report, and what metrics.json holds."""

    run: Path
    metrics: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page with curves and figures."""
        return self.run / "report.html"


@dataclass(frozen=True)
class ExportResult:
    """What `export` leaves: `bundle`, the `.medtex` file, and the report in it (parity, sizes, provenance)."""

    bundle: Path
    report: dict[str, Any]


@dataclass(frozen=True)
class EvaluateResult:
    """What `evaluate` leaves: `folder`, with maps and gallery, and what its evaluation.json holds."""

    folder: Path
    evaluation: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page that shows it."""
        return self.folder / "report.html"


def train(
    data: AnyPath | None = None,
    *,
    teacher: AnyPath | None = None,
    teacher_size: int | None = None,
    teacher_mean: Triple | None = None,
    teacher_std: Triple | None = None,
    teacher_output: str = "auto",
    student: str | None = None,
    student_weights: AnyPath | None = None,
    epochs: int | None = None,
    joint_epochs: int | None = None,
    slim: bool = False,
    method: str | None = None,
    label_loss: str | None = None,
    class_weights: str | None = None,
    budget: float | None = None,
    weight: Mapping[str, float] | Sequence[str] = (),
    sensitivity: float | None = None,
    masks: AnyPath | None = None,
    out: AnyPath | None = None,
    log: Sequence[str] = (),
    image_column: str = "image",
    label_column: str = "label",
    split_column: str = "split",
    patient_column: str = "patient",
    mask_column: str = "",
    image_folder: AnyPath = "",
    val_fraction: float = 0.2,
    accept: Sequence[str] = (),
    referable: str = "",
    size: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    seed: int = 0,
    threads: int | None = None,
    quiet: bool = True,
) -> TrainResult:
    """Distil a compact student and an explainer from a teacher, as `medtex-edge train` does.

    `data` is a folder per class, a CSV with an image folder, or a MedMNIST .npz; None: the built-in SYNTHETIC
    dataset, which says nothing about patients. `teacher` is a `train-teacher` run, a .onnx or .pt2 file, or
    "timm:NAME"; None: one is trained first. `weight` is {"mid": 0.5, ...}. An unfinished run in `out` is resumed.
    The other parameters are the options of the command (`medtex-edge train --help`). `quiet=False` shows its progress.

    One training at a time in a process: it sets PyTorch's seeds and threads. Needs the extra `train`. Raises
    `SettingsError`, `DataError`, `TeacherError`, `StorageError`: all of them `MedtexError`.

        result = medtex_edge.train("photos/", label_column="grade", out="runs/mine")
        print(result.run, result.metrics["student"]["auc_referable"])
    """
    run, metrics = call("train", _options(locals()), quiet=quiet)
    return TrainResult(Path(run), metrics)


def export(
    run: AnyPath | None = None,
    *,
    fp16: bool = False,
    int8: bool = False,
    out: AnyPath | None = None,
    data: AnyPath | None = None,
    quiet: bool = True,
) -> ExportResult:
    """Turn a run into one `.medtex` file, or refuse, as `medtex-edge export` does.

    `run` is a run folder (None: the newest in ./runs), `out` the bundle (None: NAME OF THE RUN.medtex, here), `data`
    the photographs to prove it on where the run's own were moved. `fp16` and `int8` add graphs of that precision.
    `quiet=False` shows its progress.

    Needs the extra `export`. Raises `ParityError` where a graph does not answer as the trained model does (no bundle
    is left), `SettingsError`, `DataError`, `StorageError`.

        bundle = medtex_edge.export("runs/mine", fp16=True).bundle
    """
    built = call("export", _options(locals()), quiet=quiet)
    return ExportResult(Path(built.path), built.report)


def evaluate(
    subject: AnyPath | None = None,
    *,
    data: AnyPath | None = None,
    split: str = "val",
    masks: AnyPath | None = None,
    against: str = "gradcam,gradcam++,layercam,ig,rise",
    teacher: AnyPath | None = None,
    evaluator: AnyPath | None = None,
    evaluator_epochs: int | None = None,
    compare: Sequence[AnyPath] = (),
    curve: AnyPath | None = None,
    group_column: Sequence[str] = (),
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    image_folder: AnyPath | None = None,
    accept: Sequence[str] = (),
    quick: bool = False,
    threads: int | None = None,
    out: AnyPath = "report",
    quiet: bool = True,
) -> EvaluateResult:
    """Measure a run folder or a bundle, as `medtex-edge evaluate` does: answers, maps, baselines, cost.

    `subject` is a run folder or a `.medtex` file (None: the newest run in ./runs), `out` the folder of the report.
    The other parameters are the options of the command (`medtex-edge evaluate --help`). `quiet=False` shows its
    progress.

    Needs the extra `evaluate`. Raises `SettingsError`, `DataError`, `BundleError`, `TeacherError`, `StorageError`.

        result = medtex_edge.evaluate("runs/mine", masks="lesions/", out="report/")
        print(result.evaluation["answer"]["models"]["student"]["auc_referable"])
    """
    found_in, evaluation = call("evaluate", _options(locals()), quiet=quiet)
    return EvaluateResult(Path(found_in), evaluation)


def _options(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "quiet"}
