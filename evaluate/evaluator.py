"""Who judges a map: models asked about masked photographs, and the independent one among them.

A map must not be judged by the model that it was trained with, nor by a teacher that never saw masked photographs
(on those it answers by chance). The evaluator of REAL-X (EVAL-X; Jethani et al., AISTATS 2021) is a student taught
under random masks alone, here with another backbone and another seed than the student that is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from medtex_edge.errors import DataError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.config import TrainConfig
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.teacher import Teacher, to_size
from medtex_edge.train.run_folder import Run, load_run

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

BATCH = 32
EPOCHS = 20  # of an evaluator that has to be trained: as many as its answers on masked photographs still improved by
OTHER = {"tf_efficientnet_lite0": "tf_efficientnet_lite2"}  # than the student's backbone; for all others:
OTHERWISE = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class MaskedPredictor:
    """A model that can be asked about photographs with parts hidden; call it, or `whole` for whole ones.

    answer: (N, 3, S, S) in 0..1 and masks (N, 1, h, w), None: nothing hidden -> probabilities (N, C).
    """

    answer: Callable[[Tensor, Tensor | None], Tensor]
    compute: Compute

    def __call__(self, images: Images, masks: Floats) -> Floats:
        """images (N, S, S, 3) uint8, masks (N, h, w) in 0..1, 1 is visible -> probabilities (N, C)."""
        return self._ask(images, masks)

    def whole(self, images: Images) -> Floats:
        """images (N, S, S, 3) uint8 -> probabilities (N, C)."""
        return self._ask(images, None)

    @torch.no_grad()
    def _ask(self, images: Images, masks: Floats | None) -> Floats:
        device, parts = self.compute.device, []
        for start in range(0, len(images), BATCH):
            # Copied: photographs are mapped from a file that must not be written to.
            x = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
            x = x.permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
            m = None
            if masks is not None:
                m = torch.from_numpy(np.array(masks[start : start + BATCH], np.float32))[:, None].to(device)
            parts.append(self.answer(x, m).float().cpu().numpy())
        result: Floats = np.concatenate(parts)
        return result


def ask_student(model: MedTex, compute: Compute) -> MaskedPredictor:
    """A student: what is hidden is what it was taught to do without (`MedTex.masked`)."""
    model = model.to(compute.device).eval()

    def answer(x: Tensor, m: Tensor | None) -> Tensor:
        x = model.normalise(to_size(x, model.size))
        x = x if m is None else model.masked(x, m)
        with compute.autocast():
            logits = model.student(x.contiguous(memory_format=torch.channels_last))
        return torch.softmax(logits.float() / model.temperature, dim=1)

    return MaskedPredictor(answer, compute)


def ask_teacher(teacher: Teacher, compute: Compute, *, grid: int = 14) -> MaskedPredictor:
    """A teacher: what is hidden is the photograph blurred to `grid` cells, as for students. It never saw such."""

    def answer(x: Tensor, m: Tensor | None) -> Tensor:
        x = to_size(x, teacher.size)
        if m is not None:
            side = x.shape[-2:]
            blurred = F.interpolate(F.adaptive_avg_pool2d(x, grid), side, mode="bilinear", align_corners=False)
            x = blurred + F.interpolate(m, side, mode="bilinear", align_corners=False) * (x - blurred)
        return teacher.answer(x).probabilities

    return MaskedPredictor(answer, compute)


def remembering(asked: MaskedPredictor) -> MaskedPredictor:
    """The same, asked only once about a batch that is wholly hidden or wholly shown: the ends of every curve."""
    known: dict[tuple[float, bytes], Tensor] = {}

    def answer(x: Tensor, m: Tensor | None) -> Tensor:
        if m is None or (value := float(m.min())) != float(m.max()) or value not in (0.0, 1.0):
            return asked.answer(x, m)
        key = (value, hashlib.blake2b(x.cpu().contiguous().numpy().tobytes()).digest())
        if key not in known:
            known[key] = asked.answer(x, m)
        return known[key]

    return MaskedPredictor(answer, asked.compute)


def load_evaluator(path: Path, classes: tuple[str, ...]) -> tuple[Run, MedTex]:
    """A run of the method `masked`. Raises `DataError` where it is another method's, or has other classes."""
    run = load_run(path)
    if run.config.method != "masked":
        raise DataError(
            f"{path}: an evaluator is a run of the method 'masked', this one is of {run.config.method!r}",
            hint="train one: medtex-edge train --method masked --seed ... --student ...",
        )
    if run.classes != classes:
        raise DataError(f"{path} answers {', '.join(run.classes)}; what is evaluated answers {', '.join(classes)}")
    return run, masked_model(run)


def masked_model(run: Run) -> MedTex:
    """A run's student with the masking that it was taught under; the explainer has no weights and is never asked."""
    c = run.config
    unused = Explainer(c.student, stages=c.stages, width=c.width, weights="none")
    model = MedTex(run.load_student(), unused, size=run.size, baseline_grid=c.baseline_grid, baseline=c.baseline)
    model.temperature = run.temperature
    return model.float().eval()


def evaluator_config(student: str, size: int, seed: int, epochs: int = EPOCHS) -> TrainConfig:
    """How an evaluator for that student is trained: another backbone, another seed."""
    return TrainConfig(
        student=OTHER.get(student, OTHERWISE), method="masked", size=size, seed=seed + 1, epochs=epochs,
        joint_epochs=0,
    )  # fmt: skip


def evaluator_facts(run: Run, table: dict[str, Any] | None, agreement: float | None, student: str) -> dict[str, Any]:
    """What evaluation.json says of the judge; `table` are its own answers on whole photographs."""
    same = run.config.student == student
    note = "taught under random masks alone; knows neither explainer nor student"
    return {
        "backbone": run.config.student,
        "seed": run.seed,
        "auc_referable": table["auc_referable"] if table else None,
        "agreement": agreement,
        "note": note + (", but has the student's backbone" if same else ""),
    }
