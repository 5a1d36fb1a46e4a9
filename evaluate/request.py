"""The data_options of `medtex-edge evaluate` made into a request: photographs, teacher, evaluator, lesion masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medtex_edge.errors import DataError, TeacherError
from medtex_edge.evaluate.compare import other_runs, read_curve
from medtex_edge.evaluate.evaluator import EPOCHS, evaluator_config, load_evaluator
from medtex_edge.evaluate.maps.attribution import check_names
from medtex_edge.evaluate.maps.candidates import MapPlan
from medtex_edge.evaluate.masked_predictor import MaskedPredictor
from medtex_edge.evaluate.run import Evaluator, Request
from medtex_edge.evaluate.subject import Pictures, Subject, group_values, open_pictures
from medtex_edge.files import storage
from medtex_edge.progress import ProgressDisplay
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.dataset import DataOptions
from medtex_edge.train.data.lesions import load_lesions
from medtex_edge.train.loop.reporter import Reporter
from medtex_edge.train.models.teacher import Teacher, load_teacher
from medtex_edge.train.prepare import DataSource
from medtex_edge.train.student_run import train


@dataclass(frozen=True)
class EvaluateOptions:
    """The command's data_options as given."""

    out: Path
    data: Path | None = None
    split: str = "val"
    masks: Path | None = None
    against: str = ""
    teacher: str | None = None
    evaluator: Path | None = None
    evaluator_epochs: int | None = None
    groups: tuple[str, ...] = ()
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    image_folder: str | None = None
    accept: tuple[str, ...] = ()
    quick: bool = False
    others: tuple[Path, ...] = ()
    curve: Path | None = None


def prepare(options: EvaluateOptions, subject: Subject, compute: Compute, display: ProgressDisplay) -> Request:
    """Find, check and open everything; trains an evaluator where none is at hand. Raises `MedtexError`s."""
    names = check_names(options.against.split(","))
    _check_packages(names)
    data_options = _data_options(options, subject)
    others = _others(options, subject)
    with storage(options.out, "make"):
        options.out.mkdir(parents=True, exist_ok=True)
    cache = options.out.resolve().parent / ".photographs"
    pictures = open_pictures(subject, options.data, data_options, options.split, cache, display)
    source = options.data or subject.data
    assert source is not None
    groups = {column: group_values(source, data_options, column, pictures.keys) for column in options.groups}
    teacher, spec, notes = _teacher(options, subject, compute)
    lesions = partial(load_lesions, options.masks) if options.masks else None
    if lesions is not None:
        lesions(subject.size)  # an error in them is reported now, not after minutes
    evaluator = _evaluator(options, subject, spec if teacher else "", compute, display)
    return Request(
        subject, pictures, compute, MapPlan(names, options.quick), teacher, spec, evaluator, lesions,
        options.masks.name if options.masks else "", groups, (*_trained_on(subject, pictures), *notes), others,
    )  # fmt: skip


def _others(options: EvaluateOptions, subject: Subject) -> dict[str, Any]:
    """What was measured before and is shown in the same report."""
    found: dict[str, Any] = {}
    if options.others:
        if subject.kind != "run":
            raise DataError(
                "--compare compares runs; a bundle does not hold its settings", hint="evaluate the run folder"
            )
        found["ablation"] = other_runs(subject.path, options.others)
    if options.curve is not None:
        found["curve"] = read_curve(options.curve, subject.fingerprint)
    return found


def _data_options(options: EvaluateOptions, subject: Subject) -> DataOptions:
    given = {
        name: value
        for name in ("image_column", "label_column", "split_column", "image_folder")
        if (value := getattr(options, name)) is not None
    }
    # The training's own options belong to the training's own table.
    own = (
        subject.options if options.data is None or not given else replace(DataOptions(), accept=subject.options.accept)
    )
    return replace(own, **given, accept=own.accept | frozenset(options.accept))


def _trained_on(subject: Subject, pictures: Pictures) -> list[str]:
    own = bool(subject.fingerprint) and subject.fingerprint == pictures.dataset.fingerprint
    shared = len(set(subject.splits.train) & set(pictures.keys)) if subject.splits else 0
    lines = []
    if own and "train" in pictures.splits:
        lines.append("Some of these photographs were trained on: the figures of the answers are optimistic.")
    elif shared:
        lines.append(
            f"{shared} of these photographs have the names of photographs that were trained on: if they are the same, "
            "the figures of the answers are optimistic."
        )
    if own and "val" in pictures.splits:
        lines.append(
            "Temperature, threshold and epochs were chosen on the validation photographs, so the figures of the answer "
            "are optimistic."
        )
    return lines


def _teacher(options: EvaluateOptions, subject: Subject, compute: Compute) -> tuple[Teacher | None, str, list[str]]:
    """The teacher that was named, or else the one that the run names, or the one next to the run folder."""
    if options.teacher:
        return load_teacher(options.teacher, subject.classes, compute), options.teacher, []
    next_to_run = str(subject.path.with_name(f"{subject.path.name}-teacher"))
    for spec in (subject.teacher, next_to_run) if subject.kind == "run" else ():
        if not spec:
            continue
        try:
            return load_teacher(spec, subject.classes, compute), spec, []
        except TeacherError:
            continue
    return None, "", ["The teacher was not found: name it by --teacher to compare with it."]


def _evaluator(
    options: EvaluateOptions, subject: Subject, teacher: str, compute: Compute, display: ProgressDisplay
) -> Evaluator | None:
    """The evaluator that was named, or one trained into the folder of the report, which is then reused."""
    path, epochs = options.evaluator, EPOCHS if options.evaluator_epochs is None else options.evaluator_epochs
    if path is None:
        path = options.out / "evaluator"
        if not (path / "model.json").is_file():
            if subject.kind != "run" or subject.data is None or not subject.data.exists() or not teacher or not epochs:
                return None
            _train_evaluator(subject, subject.data, teacher, path, epochs, display)
    run, model = load_evaluator(path, subject.classes)
    return Evaluator(run, MaskedPredictor.of_student(model, compute), frozenset(run.splits().train))


def _train_evaluator(
    subject: Subject, data: Path, teacher: str, path: Path, epochs: int, display: ProgressDisplay
) -> None:
    config = evaluator_config(subject.student, subject.size, subject.seed, epochs)
    with Reporter(display.console, path) as reporter:
        reporter.message(f"no --evaluator was given: training one into {path}")
        train(
            config, DataSource(data, subject.options, subject.referable), teacher, path, reporter, splits=subject.splits
        )


def _check_packages(names: tuple[str, ...]) -> None:
    """Raise now, not after minutes, where a package is missing; `main` names the extra that brings it."""
    if {"gradcam", "gradcam++", "layercam"} & set(names):
        import pytorch_grad_cam  # noqa: F401
    if "ig" in names:
        import captum  # noqa: F401
