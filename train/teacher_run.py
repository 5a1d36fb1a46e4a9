"""`medtex-edge train-teacher`: a pretrained classifier, fine-tuned on the photographs, becomes the teacher."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medtex_edge.files import atomic_path, write_json
from medtex_edge.train.compute import device
from medtex_edge.train.compute.depthwise import speed_up_depthwise
from medtex_edge.train.compute.processes import on_main
from medtex_edge.train.config import TeachConfig, write_config
from medtex_edge.train.data.augment import Augment
from medtex_edge.train.loop.fit import Batch, Fit, Phase, batches
from medtex_edge.train.loop.predict import BATCH, classifier_logits, softmax
from medtex_edge.train.loop.reporter import Reporter, write_history
from medtex_edge.train.losses.labels import label_loss
from medtex_edge.train.metrics.calibration import fit_temperature
from medtex_edge.train.metrics.classification import answer_metrics
from medtex_edge.train.metrics.operating_point import choose_operating_point
from medtex_edge.train.models.compiling import compile_networks
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.weights import normalisation
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
from medtex_edge.train.report.plots import plot_confusion, plot_history, plot_roc
from medtex_edge.train.run_folder import data_table


def train_teacher(config: TeachConfig, source: DataSource, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Train, or resume, a teacher and write its run folder; returns its metrics.

    Raises `DataError`, `SettingsError`, `TeacherError` and `StorageError`.
    """
    started = time.monotonic()
    open_folder(out)
    compute = device.choose(config.precision)
    dataset = open_dataset(source, config.seed, reporter, resumed_splits(out))
    data = prepare(source, dataset, config.size, out, reporter)
    record_splits(out, dataset)
    seed_everything(config.seed)
    reporter.message(f"teacher {config.model} at {config.size} px on {compute.description}")
    net = Classifier(config.model, len(data.dataset.classes), weights=config.model_weights, drop_rate=config.drop_rate)
    speed_up_depthwise(net, compute.autocast_dtype)
    net.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compiled:
        compile_networks(net, None, compute.device, reporter.message)
    mean, std = (torch.tensor(v, device=compute.device).view(1, 3, 1, 1) for v in normalisation(net.net))

    def normalise(x: Tensor) -> Tensor:
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    key = repr((config, data.dataset.fingerprint))
    fit = Fit(net, data.train, recipe_of(config), compute, reporter, out / "checkpoint.pt", key)
    fit.run([_phase(config, data, compute, normalise)])

    def finish() -> dict[str, Any]:
        logits = classifier_logits(fit.module, normalise, data.val, compute)
        origin = provenance(compute.description) | {"seconds": f"{time.monotonic() - started:.0f}"}
        return _write(config, data, fit, logits, out, origin)

    return on_main(finish)


def _phase(config: TeachConfig, data: TrainingData, compute: device.Compute, normalise: Any) -> Phase:
    augment = Augment().to(compute.device)
    labels, classes, ordered = data.train.labels, len(data.dataset.classes), data.dataset.ordered
    train_loss, val_loss = (
        label_loss(config.label_loss, config.class_weights, labels, classes, ordered=ordered, smoothing=smoothing).to(
            compute.device
        )
        for smoothing in (config.label_smoothing, 0.0)
    )

    def step(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(batch.images.device.type, enabled=False):
            x = normalise(augment(batch.images))
        return {"label": train_loss(batch.labels, module(x))}

    @torch.no_grad()
    def validate(module: nn.Module) -> dict[str, float]:
        total, count, right = 0.0, 0, 0
        for batch in batches(data.val, BATCH, compute):
            with compute.autocast():
                logits = module(normalise(batch.images)).float()
            known = batch.labels >= 0
            total += float(val_loss(batch.labels, logits)) * int(known.sum())
            right += int((logits.argmax(1) == batch.labels)[known].sum())
            count += int(known.sum())
        return {"val_loss": total / count, "val_accuracy": right / count}

    return Phase("teacher", config.epochs, lambda module: [(list(module.parameters()), config.lr)], step, validate)


def _write(
    config: TeachConfig, data: TrainingData, fit: Fit, logits: Any, out: Path, origin: dict[str, str]
) -> dict[str, Any]:
    dataset, referable, labels = data.dataset, data.referable, data.val.labels
    known = labels >= 0
    temperature = fit_temperature(logits[known], labels[known])
    p = softmax(logits / temperature)[known]
    scores = p[:, list(referable)].sum(1)
    truth = (labels[known][:, None] == list(referable)).any(1)
    point = choose_operating_point(scores, truth, config.target_sensitivity)
    metrics: dict[str, Any] = {
        "teacher": answer_metrics(p, labels[known], referable, ordered=dataset.ordered),
        "selected_on": "val",
    }
    plots = out / "plots"
    plots.mkdir(exist_ok=True)
    plot_history(fit.history, plots / "history.png")
    plot_roc(scores, truth, point, plots / "roc.png")
    plot_confusion(metrics["teacher"]["confusion"], dataset.classes, plots / "confusion.png")
    write_history(out / "history.csv", fit.history)
    write_config(
        out / "config.toml",
        {
            "train-teacher": asdict(config),
            "data": data_table(data.source.path, data.source.options, config.seed, dataset.fingerprint),
        },
    )
    write_json(out / "metrics.json", metrics)
    assert isinstance(fit.module, Classifier)
    with atomic_path(out / "teacher.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in fit.module.net.state_dict().items()}, temporary)
    # Written last: a run that has it is finished.
    write_json(
        out / "model.json",
        {
            "kind": "teacher",
            "model": config.model,
            "classes": list(dataset.classes),
            "ordered": dataset.ordered,
            "size": config.size,
            "referable": list(referable),
            "temperature": temperature,
            "operating_point": asdict(point),
            "provenance": origin,
        },
    )
    (out / "checkpoint.pt").unlink(missing_ok=True)
    return metrics
