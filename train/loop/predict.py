"""Answers on photographs, without augmentation, in batches; and their tables in `metrics.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medtex_edge.contract import OperatingPoint
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.fit import batches
from medtex_edge.train.metrics.classification import answer_metrics
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.teacher import Teacher, to_size

Floats = npt.NDArray[np.float32]
BATCH = 32


@dataclass(frozen=True)
class Predictions:
    """logits (N, C) under the explainer's mask, as deployed; whole_logits on the whole picture; maps (N, h, w)."""

    logits: Floats
    whole_logits: Floats
    maps: Floats

    def probabilities(self, temperature: float) -> Floats:
        return softmax(self.logits / temperature)


def softmax(logits: Floats) -> Floats:
    """(N, C) -> (N, C), stable."""
    z = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = (z / z.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


@torch.no_grad()
def teacher_answers(teacher: Teacher, photos: Photos, compute: Compute) -> Floats:
    """(N, C) probabilities of the whole, unaugmented photographs."""
    return np.concatenate(
        [teacher.answer(b.for_teacher).probabilities.cpu().numpy() for b in batches(photos, BATCH, compute)]
    )


@torch.no_grad()
def predict(model: MedTex, photos: Photos, compute: Compute, *, explained: bool = True) -> Predictions:
    """The student's logits and the explainer's maps in fp32, as the exported graph computes them."""
    model.eval()
    logits, whole, maps = [], [], []
    for batch in batches(photos, BATCH, compute):
        x = model.normalise(to_size(batch.images, model.size))
        whole.append(model.student(x).float().cpu().numpy())
        m = model.masks(x) if explained else torch.ones(len(x), 1, model.grid, model.grid, device=x.device)
        logits.append(model.student(model.masked(x, m)).float().cpu().numpy() if explained else whole[-1])
        maps.append(m[:, 0].cpu().numpy())
    return Predictions(np.concatenate(logits), np.concatenate(whole), np.concatenate(maps))


@torch.no_grad()
def classifier_logits(net: nn.Module, normalise: Any, photos: Photos, compute: Compute) -> Floats:
    """(N, C) fp32 logits of a bare classifier."""
    net.eval()
    return np.concatenate([net(normalise(b.images)).float().cpu().numpy() for b in batches(photos, BATCH, compute)])


def area_report(
    maps: Floats, probabilities: Floats, referable: tuple[int, ...], point: OperatingPoint
) -> dict[str, Any]:
    """How much of the photographs the masks open, over all and by verdict."""
    areas = maps.mean(axis=(1, 2))
    positive = probabilities[:, list(referable)].sum(1) >= point.threshold
    report: dict[str, Any] = {"mean_area": float(areas.mean())}
    for name, chosen in (("referable", positive), ("not_referable", ~positive)):
        report[f"mean_area_{name}"] = float(areas[chosen].mean()) if chosen.any() else None
    return report


def student_report(
    predictions: Predictions,
    temperature: float,
    teacher: Floats,
    labels: npt.NDArray[np.int64],
    referable: tuple[int, ...],
    ordered: bool,
) -> dict[str, Any]:
    """The tables `teacher`, `student`, `student_whole_picture` and the agreement of `metrics.json`."""
    known = labels >= 0
    probabilities = predictions.probabilities(temperature)
    whole = softmax(predictions.whole_logits / temperature)

    def measured(p: Floats) -> dict[str, Any]:
        return answer_metrics(p[known], labels[known], referable, ordered=ordered)

    return {
        "teacher": measured(teacher),
        "student": measured(probabilities),
        "student_whole_picture": measured(whole),
        "agreement": float((probabilities.argmax(1) == teacher.argmax(1)).mean()),
    }
