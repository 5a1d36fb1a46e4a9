"""The answer's half of an evaluation: student, teacher, their agreement, and groups such as cameras or sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import OperatingPoint
from medtex_edge.errors import BundleError, TeacherError
from medtex_edge.evaluate.subject import Subject
from medtex_edge.train.metrics.classification import answer_table
from medtex_edge.train.metrics.intervals import proportion
from medtex_edge.train.models.teacher import read_card

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
FEWEST = 5  # labelled photographs of a group, below which its figures would be meaningless


@dataclass(frozen=True)
class ModelProbabilities:
    """Probabilities (N, C) of the same photographs: the student as deployed, on whole pictures, and the teacher."""

    student: Floats
    whole: Floats | None = None
    teacher: Floats | None = None
    teacher_point: OperatingPoint | None = None

    def teacher_threshold(self) -> float:
        """On the teacher's referable probability; 0.5 where none was fixed."""
        return self.teacher_point.threshold if self.teacher_point else 0.5


def point_of_teacher(spec: str) -> OperatingPoint | None:
    """The threshold that a run of `medtex-edge train-teacher` fixed; None for any other teacher."""
    try:
        point = dict(read_card(Path(spec), "teacher")["operating_point"])
        for name in ("sensitivity_interval", "specificity_interval"):
            point[name] = tuple(point[name])
        return OperatingPoint(**point)
    except (TeacherError, BundleError, KeyError, TypeError, ValueError):
        return None


def answer_part(
    subject: Subject, answers: ModelProbabilities, labels: Ints, groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The table `answer` of evaluation.json. labels (N,), -1: none; groups: column -> N values."""
    known = labels >= 0

    def table(p: Floats | None, point: OperatingPoint | None, chosen: npt.NDArray[np.bool_] = known) -> Any:
        if p is None:
            return None
        return answer_table(p[chosen], labels[chosen], subject.referable, ordered=subject.ordered, point=point)

    found: dict[str, dict[str, Any]] = {}
    for column, values in groups.items():
        found[column] = {}
        for value in sorted(set(values)):
            chosen = known & (np.array(values) == value)
            if chosen.sum() >= FEWEST:
                found[column][value or "(empty)"] = table(answers.student, subject.point, chosen)
    return {
        "models": {
            "student": table(answers.student, subject.point),
            # The sealed threshold belongs to the masked photograph; on the whole one it has no meaning.
            "student_whole_picture": table(answers.whole, None),
            "teacher": table(answers.teacher, answers.teacher_point),
        },
        "agreement": agreement(subject, answers),
        "groups": found,
    }


def agreement(subject: Subject, answers: ModelProbabilities) -> dict[str, Any]:
    """How often the student, as deployed, gives the teacher's answer to the whole photograph: class and verdict."""
    if answers.teacher is None:
        return {"label": None, "verdict": None}
    chosen = list(subject.referable)
    mine = answers.student[:, chosen].sum(1) >= subject.point.threshold
    theirs = answers.teacher[:, chosen].sum(1) >= answers.teacher_threshold()
    return {
        "label": proportion(answers.student.argmax(1) == answers.teacher.argmax(1)),
        "verdict": proportion(mine == theirs),
    }
