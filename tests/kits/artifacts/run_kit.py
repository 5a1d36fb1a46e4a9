"""A small real run folder, written by the trainer's own functions, without a training."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from bundles import disc
from safetensors.torch import save_file

from medtex_edge.contract import OperatingPoint
from medtex_edge.files import write_json
from medtex_edge.train.config import TrainConfig, write_config
from medtex_edge.train.data.dataset import DataOptions, load_dataset
from medtex_edge.train.data.split import write_splits
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.run_folder import data_table

STUDENT = "test_efficientnet"  # timm's smallest of the family: 0.4 M parameters
CONFIG = TrainConfig(student=STUDENT, student_weights="none", size=64, stages=3, width=8)
CLASSES = ("none", "some", "much")


def write_photographs(folder: Path, count: int = 30, *, split: bool = True) -> Path:
    """A CSV dataset of drawn discs, grades 0 to 2, every fifth in the val split; without `split` none is named."""
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "split"] if split else ["image", "label"])
        for index in range(count):
            image = disc(128, lesion=index % 3 > 0, seed=index, level=80 + 30 * (index % 3))
            cv2.imwrite(str(folder / "images" / f"{index:03d}.png"), image)
            place = ["val" if index % 5 == 0 else "train"] if split else []
            rows.writerow([f"{index:03d}.png", index % 3, *place])
    return folder


def model(config: TrainConfig = CONFIG, seed: int = 0) -> MedTex:
    """A MedTex of random weights whose batch statistics fit the drawn photographs, so that its answers vary."""
    torch.manual_seed(seed)
    student = Classifier(config.student, len(CLASSES), weights="none")
    explainer = Explainer(config.student, stages=config.stages, width=config.width, weights="none")
    made = MedTex(student, explainer, size=config.size, baseline_grid=config.baseline_grid)
    images = np.stack([cv2.resize(disc(128, lesion=i % 2 > 0, seed=i), (config.size,) * 2) for i in range(12)])
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        made.train()(torch.from_numpy(images))
        made.explainer.decoder.head.weight *= 20
    return made.eval()


def write_run(
    folder: Path, photographs: Path, made: MedTex | None = None, *, config: TrainConfig = CONFIG, **card: Any
) -> Path:
    """A finished run of `made` in `folder`; `card` changes what its model.json says."""
    made = made or model()
    folder.mkdir(parents=True)
    options = DataOptions()
    dataset = load_dataset(photographs, options=options, seed=0)
    point = OperatingPoint(0.6, 0.9, 0.92, (0.8, 0.98), 0.75, (0.6, 0.85), 20, 10)
    whole = {
        "kind": "student", "name": folder.name, "student": config.student, "method": config.method, "teacher": "toy",
        "classes": list(dataset.classes), "referable": [1, 2], "ordered": dataset.ordered, "size": config.size,
        "temperature": 1.25, "operating_point": asdict(point), "data_fingerprint": dataset.fingerprint, "seed": 0,
    }  # fmt: skip
    save_file(made.student.net.state_dict(), folder / "student.safetensors")
    save_file(made.explainer.state_dict(), folder / "explainer.safetensors")
    write_config(
        folder / "config.toml",
        {"train": asdict(config), "data": data_table(photographs, options, 0, dataset.fingerprint)},
    )
    write_json(
        folder / "metrics.json", {"student": {"auc_referable": 0.91, "n": 6}, "saliency": {"masks": "/home/ann/x"}}
    )
    write_splits(folder, dataset.splits)
    write_json(folder / "model.json", {**whole, **card})
    return folder


def write_teacher(folder: Path, seed: int = 5, classes: tuple[str, ...] = ("0", "1", "2")) -> Path:
    """A finished run of `medtex-edge train-teacher`, of random weights, at the students' size."""
    folder.mkdir(parents=True)
    point = OperatingPoint(0.4, 0.9, 0.92, (0.8, 0.98), 0.75, (0.6, 0.85), 20, 10)
    save_file(model(seed=seed).student.net.state_dict(), folder / "teacher.safetensors")
    card = {
        "kind": "teacher", "model": STUDENT, "classes": list(classes), "ordered": True, "size": CONFIG.size,
        "referable": [1, 2], "temperature": 1.0, "operating_point": asdict(point),
    }  # fmt: skip
    write_json(folder / "model.json", card)
    return folder
