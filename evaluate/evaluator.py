"""The independent evaluator of the maps.

A map must not be measured by the model that it was trained with, nor by a teacher that was never trained on masked
photographs (on those it answers by chance). The evaluator of REAL-X (EVAL-X; Jethani et al., AISTATS 2021) is a
student taught under random masks alone, here with another backbone and another seed than the evaluated student.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medtex_edge.errors import DataError
from medtex_edge.train.config import TrainConfig
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.run_folder import Run, load_run

EPOCHS = 20  # of an evaluator that has to be trained: as many as its answers on masked photographs still improved by
OTHER = {"tf_efficientnet_lite0": "tf_efficientnet_lite2"}  # than the student's backbone; for all others:
OTHERWISE = "tf_efficientnet_lite0"


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
    """A run's student with the masking that it was taught under; the explainer has no weights and is never used."""
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


def evaluator_table(run: Run, table: dict[str, Any] | None, agreement: float | None, student: str) -> dict[str, Any]:
    """The table `evaluator` of evaluation.json; `table` are its own answers on whole photographs."""
    same = run.config.student == student
    note = "taught under random masks alone, without the explainer and the student"
    return {
        "backbone": run.config.student,
        "seed": run.seed,
        "auc_referable": table["auc_referable"] if table else None,
        "agreement": agreement,
        "note": note + (", but has the student's backbone" if same else ""),
    }
