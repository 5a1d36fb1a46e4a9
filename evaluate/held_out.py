"""How a finished run answers on the split that no training, threshold or choice has seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from medtex_edge.errors import DataError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.config import EXPLAINED
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.predict import Floats, predict, student_report, teacher_answers
from medtex_edge.train.metrics.intervals import proportion_interval
from medtex_edge.train.models.teacher import Teacher
from medtex_edge.train.run_folder import Run


def held_out_report(run: Run, teacher: Teacher, compute: Compute, *, split: str = "test") -> dict[str, Any]:
    """The tables `teacher`, `student` and `student_whole_picture` of a split, as `metrics.json` has them of val.

    The student answers from what its explainer leaves visible, in fp32, with the run's own temperature and at its own
    operating point: nothing is fitted here. Raises `DataError` where the split has no labelled photographs.
    """
    photos = run.photographs(split, teacher_size=teacher.size)
    if not bool((photos.labels >= 0).any()):
        raise DataError(
            f"{run.data}: no labelled photographs in the {split} split", hint="name the split: val has some always"
        )
    if run.config.method not in EXPLAINED:
        raise DataError(f"{run.path} was trained by the method {run.config.method!r}: it has no explainer")
    predictions = predict(run.load_model().to(compute.device), photos, compute)
    answers = teacher_answers(teacher, photos, compute)
    report = student_report(predictions, run.temperature, answers, photos.labels, run.referable, run.ordered)
    report["student"]["operating_point"] = _at_threshold(run, predictions.probabilities(run.temperature), photos)
    report["mean_area"] = float(predictions.maps.mean())
    report["split"] = split
    return report


def _at_threshold(run: Run, probabilities: Floats, photos: Photos) -> dict[str, Any]:
    known = photos.labels >= 0
    positive = probabilities[known][:, list(run.referable)].sum(1) >= run.operating_point.threshold
    truth = np.isin(photos.labels[known], run.referable)
    table: dict[str, Any] = {"threshold": run.operating_point.threshold}
    for name, right, total in (
        ("sensitivity", int((positive & truth).sum()), int(truth.sum())),
        ("specificity", int((~positive & ~truth).sum()), int((~truth).sum())),
    ):
        table[name] = right / total if total else None
        table[f"{name}_interval"] = proportion_interval(right, total)
    return table
