"""`medtex-edge train`: student and explainer, distilled from a teacher."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from medtex_edge.contract import OperatingPoint
from medtex_edge.files import atomic_path, write_json
from medtex_edge.train.compute import device
from medtex_edge.train.compute.depthwise import speed_up_depthwise
from medtex_edge.train.compute.processes import on_main
from medtex_edge.train.config import EXPLAINED, TrainConfig, write_config
from medtex_edge.train.data.augment import Augment
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.data.dataset import Dataset
from medtex_edge.train.data.lesions import load_column, load_lesions
from medtex_edge.train.data.split import Splits
from medtex_edge.train.data.subset import Subset
from medtex_edge.train.loop.distillation import Distillation, TrainingSteps
from medtex_edge.train.loop.fit import Fit
from medtex_edge.train.loop.predict import Floats, Predictions, area_report, predict, student_report, teacher_answers
from medtex_edge.train.loop.reporter import Reporter, write_history
from medtex_edge.train.losses.labels import label_loss
from medtex_edge.train.losses.objective import LLocal, evidence_channels
from medtex_edge.train.metrics.calibration import fit_temperature
from medtex_edge.train.metrics.operating_point import choose_operating_point
from medtex_edge.train.metrics.saliency import saliency_report
from medtex_edge.train.models.compiling import compile_networks
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.teacher import FileOptions, Teacher, load_teacher
from medtex_edge.train.prepare import (
    DataSource,
    TrainingData,
    open_dataset,
    open_folder,
    prepare,
    provenance,
    recipe_of,
    record_splits,
    resumed_splits,
    seed_everything,
)
from medtex_edge.train.report.model_card import write_run_card
from medtex_edge.train.report.plots import plot_confusion, plot_history, plot_roc, plot_sheet
from medtex_edge.train.report.report import write_report
from medtex_edge.train.run_folder import data_table

SHEET = 12  # photographs on the sheet


@dataclass(frozen=True)
class Outcome:
    """The results on the validation photographs, before they are written."""

    temperature: float
    point: OperatingPoint
    predictions: Predictions
    metrics: dict[str, Any]


def train(
    config: TrainConfig,
    source: DataSource,
    teacher_spec: str,
    out: Path,
    reporter: Reporter,
    *,
    teacher_options: FileOptions | None = None,
    masks: Path | None = None,
    command: str = "",
    splits: Splits | None = None,
    subset: Subset | None = None,
    whole: bool = True,
) -> dict[str, Any]:
    """Distil, or resume, and write the run folder; returns its metrics.

    masks: lesion masks to score against. splits: those of another run, to be used again. subset: the part of the labels
    to learn from. whole: False writes neither weights nor pictures, since a point of the less-data curve needs none.
    """
    started = time.monotonic()
    open_folder(out)
    compute = device.choose(config.precision)
    dataset = open_dataset(source, config.seed, reporter, resumed_splits(out) or splits)
    teacher = load_teacher(teacher_spec, dataset.classes, compute, teacher_options)
    # Each network gets its own crop of the photograph itself. An image that is shrunk twice is softer than those that a
    # device crops, and a teacher predicts worse on an enlarged one.
    data = prepare(source, dataset, config.size, out, reporter, teacher_size=teacher.size)
    record_splits(out, dataset)
    seed_everything(config.seed)
    model = _build_model(config, dataset)
    distillation = _build_distillation(config, model, teacher, dataset, compute, reporter)
    photos = subset.of(data.train) if subset else data.train
    key = repr((config, dataset.fingerprint, teacher_spec, *([subset] if subset else [])))
    fit = Fit(distillation, photos, recipe_of(config), compute, reporter, out / "checkpoint.pt", key)
    label = label_loss(
        config.label_loss, config.class_weights, photos.labels, len(dataset.classes), ordered=dataset.ordered
    )
    steps = TrainingSteps(config, teacher, Augment().to(compute.device), data.val, compute, label.to(compute.device))
    fit.run(steps.phases())

    def finish() -> dict[str, Any]:
        outcome = _evaluate(config, model, teacher, data, compute, masks)
        origin = provenance(compute.description) | {"seconds": f"{time.monotonic() - started:.0f}", "command": command}
        if whole:
            _write(config, data, teacher, fit, model, outcome, out, origin)
        else:
            _write_measures(config, data, fit, outcome, out)
        (out / "checkpoint.pt").unlink(missing_ok=True)
        return outcome.metrics

    return on_main(finish)


def _build_model(config: TrainConfig, dataset: Dataset) -> MedTex:
    """Student and explainer with their initial weights, from PyTorch's generator where they are not pretrained."""
    return MedTex(
        Classifier(config.student, len(dataset.classes), weights=config.student_weights),
        Explainer(
            config.student,
            stages=config.stages,
            width=config.width,
            channels=evidence_channels(len(dataset.classes), dataset.ordered),
            weights=config.student_weights,
        ),
        size=config.size,
        baseline_grid=config.baseline_grid,
        baseline=config.baseline,
    )


def _build_distillation(
    config: TrainConfig,
    model: MedTex,
    teacher: Teacher,
    dataset: Dataset,
    compute: device.Compute,
    reporter: Reporter,
) -> Distillation:
    """The trained module: the model and the parameters of the losses, on the device, compiled by request."""
    speed_up_depthwise(model, compute.autocast_dtype)
    distillation = Distillation(
        model,
        teacher.feature_channels if config.weights.mid else (),
        LLocal(len(dataset.classes), ordered=dataset.ordered) if config.weights.local else None,
    )
    distillation.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compiled:
        compile_networks(distillation, teacher, compute.device, reporter.message)
    reporter.message(
        f"student {config.student} at {config.size} px, method {config.method}, "
        f"teacher {teacher.name}, on {compute.description}"
    )
    for note in teacher.notes:
        reporter.message(f"  {note}")
    return distillation


def _evaluate(
    config: TrainConfig,
    model: MedTex,
    teacher: Teacher,
    data: TrainingData,
    compute: device.Compute,
    masks: Path | None,
) -> Outcome:
    val, referable = data.val, data.referable
    known = val.labels >= 0
    answers = teacher_answers(teacher, val, compute)
    predictions = predict(model, val, compute, explained=config.method in EXPLAINED)
    temperature = fit_temperature(predictions.logits[known], val.labels[known])
    probabilities = predictions.probabilities(temperature)
    scores, truth = _scores(probabilities, val, referable)
    point = choose_operating_point(scores, truth, config.target_sensitivity)
    metrics = student_report(predictions, temperature, answers, val.labels, referable, data.dataset.ordered)
    metrics["student"]["temperature"] = temperature
    metrics["student"]["operating_point"] = asdict(point)
    metrics["saliency"] = (
        area_report(predictions.maps, probabilities, referable, point) if config.method in EXPLAINED else {}
    )
    lesions = load_lesions(masks, config.size) if masks else load_column(data.dataset, "val", config.size)
    if lesions is not None and config.method in EXPLAINED:
        photos = Photos(lesions.images, np.full(len(lesions.images), -1, np.int64), lesions.keys)
        maps = predict(model, photos, compute).maps
        origin = str(masks or f"column {data.source.options.mask_column}")
        metrics["saliency"] |= saliency_report(maps, lesions.images, lesions.masks["ALL"]) | {"masks": origin}
    metrics["selected_on"] = "val"
    metrics["method"] = config.method
    return Outcome(temperature, point, predictions, metrics)


def _scores(probabilities: Floats, val: Photos, referable: tuple[int, ...]) -> tuple[Floats, Any]:
    known = val.labels >= 0
    return probabilities[known][:, list(referable)].sum(1), np.isin(val.labels[known], referable)


def _write(
    config: TrainConfig,
    data: TrainingData,
    teacher: Teacher,
    fit: Fit,
    model: MedTex,
    outcome: Outcome,
    out: Path,
    origin: dict[str, str],
) -> None:
    dataset = data.dataset
    _plots(config, data, fit, outcome, out / "plots")
    _write_measures(config, data, fit, outcome, out)
    parts = {"student": model.student.net}
    if config.method in EXPLAINED:
        parts["explainer"] = model.explainer
    for name, module in parts.items():
        with atomic_path(out / f"{name}.safetensors") as temporary:
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, temporary)
    # Written last: a run that has it is finished.
    write_json(out / "model.json", _card(config, dataset, data.referable, teacher, outcome, out.name, origin))
    write_report(out)
    write_run_card(out)


def _write_measures(config: TrainConfig, data: TrainingData, fit: Fit, outcome: Outcome, out: Path) -> None:
    dataset = data.dataset
    write_history(out / "history.csv", fit.history)
    write_config(
        out / "config.toml",
        {
            "train": asdict(config),
            "data": data_table(data.source.path, data.source.options, config.seed, dataset.fingerprint),
        },
    )
    write_json(out / "metrics.json", outcome.metrics)


def _card(
    config: TrainConfig,
    dataset: Dataset,
    referable: tuple[int, ...],
    teacher: Teacher,
    outcome: Outcome,
    name: str,
    origin: dict[str, str],
) -> dict[str, Any]:
    return {
        "kind": "student",
        "name": name,
        "student": config.student,
        "method": config.method,
        "teacher": teacher.name,
        "classes": list(dataset.classes),
        "referable": list(referable),
        "ordered": dataset.ordered,
        "size": config.size,
        "temperature": outcome.temperature,
        "operating_point": asdict(outcome.point),
        "data_fingerprint": dataset.fingerprint,
        "seed": config.seed,
        "provenance": origin,
    }


def _plots(config: TrainConfig, data: TrainingData, fit: Fit, outcome: Outcome, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    val, classes, referable = data.val, data.dataset.classes, data.referable
    probabilities = outcome.predictions.probabilities(outcome.temperature)
    scores, truth = _scores(probabilities, val, referable)
    plot_history(fit.history, folder / "history.png")
    plot_roc(scores, truth, outcome.point, folder / "roc.png")
    plot_confusion(outcome.metrics["student"]["confusion"], classes, folder / "confusion.png")
    if config.method not in EXPLAINED:
        return
    predicted = probabilities.argmax(1)
    # Errors come first: a sheet of correct predictions alone would hide them from the reader.
    order = sorted(range(len(predicted)), key=lambda i: (bool(val.labels[i] < 0 or predicted[i] == val.labels[i]), i))
    half = [i for i in order if predicted[i] != val.labels[i]][: SHEET // 2]
    chosen = half + [i for i in order if predicted[i] == val.labels[i]][: SHEET - len(half)]
    titles = []
    for i in chosen:
        label = f"labelled {classes[val.labels[i]]}" if val.labels[i] >= 0 else "no label"
        titles.append(f"{label}, read {classes[predicted[i]]} ({probabilities[i, predicted[i]]:.2f})")
    plot_sheet(np.asarray(val.images[chosen]), outcome.predictions.maps[chosen], titles, folder / "sheet.png", None)
