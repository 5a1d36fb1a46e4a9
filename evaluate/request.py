"""The options of `medtex-edge evaluate` made into a request: photographs, teacher, judge, lesion masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medtex_edge.errors import DataError, TeacherError
from medtex_edge.evaluate.compare import other_runs, read_curve
from medtex_edge.evaluate.evaluator import EPOCHS, ask_student, evaluator_config, load_evaluator
from medtex_edge.evaluate.maps.attribution import check_names
from medtex_edge.evaluate.maps.candidates import MapPlan
from medtex_edge.evaluate.run import Judge, Request
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
    """The command's options as given."""

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


def prepare(asking: EvaluateOptions, subject: Subject, compute: Compute, display: ProgressDisplay) -> Request:
    """Find, check and open everything; trains an evaluator where none is at hand. Raises `MedtexError`s."""
    names = check_names(asking.against.split(","))
    _need_extra(names)
    options = _options(asking, subject)
    others = _others(asking, subject)
    with storage(asking.out, "make"):
        asking.out.mkdir(parents=True, exist_ok=True)
    cache = asking.out.resolve().parent / ".photographs"
    pictures = open_pictures(subject, asking.data, options, asking.split, cache, display)
    source = asking.data or subject.data
    assert source is not None
    groups = {column: group_values(source, options, column, pictures.keys) for column in asking.groups}
    teacher, spec, words = _teacher(asking, subject, compute)
    lesions = partial(load_lesions, asking.masks) if asking.masks else None
    if lesions is not None:
        lesions(subject.size)  # what is wrong with them is said now, not after minutes
    judge = _judge(asking, subject, spec if teacher else "", compute, display)
    return Request(
        subject, pictures, compute, MapPlan(names, asking.quick), teacher, spec, judge, lesions,
        asking.masks.name if asking.masks else "", groups, (*_trained_on(subject, pictures), *words), others,
    )  # fmt: skip


def _others(asking: EvaluateOptions, subject: Subject) -> dict[str, Any]:
    """What was measured before and stands in the same report."""
    found: dict[str, Any] = {}
    if asking.others:
        if subject.kind != "run":
            raise DataError(
                "--compare compares runs; a bundle does not tell its settings", hint="evaluate the run folder"
            )
        found["ablation"] = other_runs(subject.path, asking.others)
    if asking.curve is not None:
        found["curve"] = read_curve(asking.curve, subject.fingerprint)
    return found


def _options(asking: EvaluateOptions, subject: Subject) -> DataOptions:
    given = {
        name: value
        for name in ("image_column", "label_column", "split_column", "image_folder")
        if (value := getattr(asking, name)) is not None
    }
    # The training's own options belong to the training's own table.
    own = subject.options if asking.data is None or not given else replace(DataOptions(), accept=subject.options.accept)
    return replace(own, **given, accept=own.accept | frozenset(asking.accept))


def _trained_on(subject: Subject, pictures: Pictures) -> list[str]:
    own = bool(subject.fingerprint) and subject.fingerprint == pictures.dataset.fingerprint
    shared = len(set(subject.splits.train) & set(pictures.keys)) if subject.splits else 0
    words = []
    if own and "train" in pictures.splits:
        words.append("Some of these photographs were trained on: the answers look better than they are.")
    elif shared:
        words.append(
            f"{shared} of these photographs have the names of photographs that were trained on: if they are the same, "
            "the answers look better than they are."
        )
    if own and "val" in pictures.splits:
        words.append(
            "Temperature, threshold and epochs were chosen on the validation photographs, so the figures of the answer "
            "lean to the good side."
        )
    return words


def _teacher(asking: EvaluateOptions, subject: Subject, compute: Compute) -> tuple[Teacher | None, str, list[str]]:
    """The teacher that was named, or else the one that the run names, or the one trained beside it."""
    if asking.teacher:
        return load_teacher(asking.teacher, subject.classes, compute), asking.teacher, []
    beside = str(subject.path.with_name(f"{subject.path.name}-teacher"))
    for spec in (subject.teacher, beside) if subject.kind == "run" else ():
        if not spec:
            continue
        try:
            return load_teacher(spec, subject.classes, compute), spec, []
        except TeacherError:
            continue
    return None, "", ["The teacher was not at hand: name it by --teacher to have it compared."]


def _judge(
    asking: EvaluateOptions, subject: Subject, teacher: str, compute: Compute, display: ProgressDisplay
) -> Judge | None:
    """The evaluator that was named, or one trained beside the report, which is used again where it is finished."""
    path, epochs = asking.evaluator, EPOCHS if asking.evaluator_epochs is None else asking.evaluator_epochs
    if path is None:
        path = asking.out / "evaluator"
        if not (path / "model.json").is_file():
            if subject.kind != "run" or subject.data is None or not subject.data.exists() or not teacher or not epochs:
                return None
            _train_judge(subject, subject.data, teacher, path, epochs, display)
    run, model = load_evaluator(path, subject.classes)
    return Judge(run, ask_student(model, compute), frozenset(run.splits().train))


def _train_judge(subject: Subject, data: Path, teacher: str, path: Path, epochs: int, display: ProgressDisplay) -> None:
    config = evaluator_config(subject.student, subject.size, subject.seed, epochs)
    referable = ",".join(str(index) for index in subject.referable)
    with Reporter(display.console, path) as reporter:
        reporter.message(f"no --evaluator was given: training one into {path}")
        train(config, DataSource(data, subject.options, referable), teacher, path, reporter, splits=subject.splits)


def _need_extra(names: tuple[str, ...]) -> None:
    """Find out now, not after minutes, whether a package is missing; `main` says which extra brings it."""
    if {"gradcam", "gradcam++", "layercam"} & set(names):
        import pytorch_grad_cam  # noqa: F401
    if "ig" in names:
        import captum  # noqa: F401
