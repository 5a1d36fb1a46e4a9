"""Everything that is known of a run or a bundle, gathered into one folder: evaluation.json, maps.npz, gallery/."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.answers import ModelProbabilities, answer_part, point_of_teacher
from medtex_edge.evaluate.evaluator import evaluator_table
from medtex_edge.evaluate.gallery import PredictionSet, write_cases
from medtex_edge.evaluate.maps.candidates import Candidate, MapPlan, MapSource, candidates, sources
from medtex_edge.evaluate.masked_predictor import MaskedPredictor
from medtex_edge.evaluate.measures.faithfulness import TeacherLabels, teacher_labels
from medtex_edge.evaluate.measures.rows import (
    MapSample,
    evaluator_rows,
    fidelity_row,
    leakage_part,
    lesion_part,
    measure_table,
    sanity_rows,
    screened,
    teacher_rows,
)
from medtex_edge.evaluate.subject import Images, Pictures, Subject
from medtex_edge.files import atomic_write, write_json
from medtex_edge.progress import ProgressDisplay
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.lesions import Lesions
from medtex_edge.train.models.teacher import Teacher
from medtex_edge.train.report.measures import BASELINE, CONTROL
from medtex_edge.train.run_folder import Run

Floats = npt.NDArray[np.float32]
TEACHER_BLIND = (
    "The teacher was not trained on masked photographs: on those it answers by chance, and its figures are there for "
    "comparison only."
)
LESIONS_SEEN = (
    "Photographs with lesion masks may be among those that were trained on: maps are scored on them, never accuracy."
)


@dataclass(frozen=True)
class Evaluator:
    """The independent evaluator: its run, its predictor, and which photographs it was taught on."""

    run: Run
    predictor: MaskedPredictor
    trained_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, on what, against whom."""

    subject: Subject
    pictures: Pictures
    compute: Compute
    plan: MapPlan
    teacher: Teacher | None = None
    teacher_spec: str = ""
    evaluator: Evaluator | None = None
    lesions: Callable[[int], Lesions] | None = None  # at so many pixels a side
    lesions_folder: str = ""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)  # tables made elsewhere: `ablation`, `curve`


def evaluate(request: Request, out: Path, steps: ProgressDisplay, provenance: dict[str, Any]) -> dict[str, Any]:
    """Measure, write `out`/evaluation.json last, and return it. `provenance`: name, command, versions, cost.

    Raises `DataError` for photographs that cannot be used, `StorageError` where the disk refuses.
    """
    subject, pictures = request.subject, request.pictures
    found = sources(subject, request.teacher, request.compute) if request.plan.methods else []
    predictions = _predict(
        request, pictures.at(subject.size), pictures.at(_largest(request)), found, steps, "photographs"
    )
    with steps.step("answers"):
        answer = answer_part(subject, predictions.answers, pictures.labels, request.groups)
    explanation, kept = _explanation(request, predictions, found, steps)
    lesions, marked, on_lesions = None, None, None
    if request.lesions is not None:
        # At the largest input, so that an attribution method on the teacher sees no enlarged picture.
        marked = request.lesions(_largest(request))
        own = request.lesions(subject.size).images
        on_lesions = _predict(request, own, marked.images, found, steps, "lesion photographs")
        with steps.step("maps against lesion masks", len(on_lesions.every) + 1) as step:
            lesions = lesion_part(on_lesions.every, marked, request.lesions_folder, step.tick)
    with steps.step("gallery"):
        gallery = write_cases(out, subject, pictures, predictions, marked, on_lesions, lesions)
    _write_maps(out / "maps.npz", kept, on_lesions.every if on_lesions else [])
    evaluation = {
        "kind": "evaluation",
        **provenance,
        "subject": subject.as_json(),
        "data": pictures.as_json(),
        "answer": answer,
        "explanation": explanation,
        "lesions": lesions,
        "gallery": gallery,
        **request.others,
        "warnings": list(request.warnings) + ([LESIONS_SEEN] if lesions else []),
    }
    write_json(out / "evaluation.json", evaluation)
    return evaluation


def _largest(request: Request) -> int:
    """The side at which no model sees an enlarged picture."""
    sizes = [request.subject.size]
    sizes += [request.teacher.size] if request.teacher is not None else []
    sizes += [request.evaluator.run.size] if request.evaluator is not None else []
    return max(sizes)


def _predict(
    request: Request, own: Images, images: Images, found: list[MapSource], steps: ProgressDisplay, name: str
) -> PredictionSet:
    """Answers and maps of the photographs, once at the subject's own size and once at the largest one."""
    subject = request.subject
    with steps.step(f"reading {len(own)} {name}") as step:
        start = time.perf_counter()
        probabilities, maps = subject.read(own)
        seconds = (time.perf_counter() - start) / max(len(own), 1)
        whole = subject.whole(own) if subject.whole is not None else None
        theirs = (
            MaskedPredictor.of_teacher(request.teacher, request.compute).whole(images)
            if request.teacher is not None
            else None
        )
        step.note = f"{seconds * 1000:.0f} ms each" if maps is not None else ""
    answers = ModelProbabilities(probabilities, whole, theirs, point_of_teacher(request.teacher_spec))
    with steps.step(f"attribution methods, {name}", max(len(request.plan.methods) * len(found), 1)) as step:
        every = candidates(maps, seconds if maps is not None else None, found, images, request.plan, step.tick)
        step.note = f"{len(every)} kinds of map"
    return PredictionSet(own, images, answers, maps, every)


def _explanation(
    request: Request, predictions: PredictionSet, found: list[MapSource], steps: ProgressDisplay
) -> tuple[dict[str, Any], list[Candidate]]:
    subject, plan, evaluator = request.subject, request.plan, request.evaluator
    answers, warnings = predictions.answers, []
    # What has to be explained is the teacher's answer; without a teacher, the student's own.
    reference, threshold = answers.teacher, answers.teacher_threshold()
    if reference is None:
        reference, threshold = answers.student, subject.point.threshold
        warnings.append("No teacher was given: what is to be kept is the student's own answer.")
    labels = teacher_labels(reference, subject.referable, threshold)
    sample = MapSample(predictions.images, labels)
    every = predictions.every
    predictor = evaluator.predictor if evaluator else None
    if predictor is not None:
        with steps.step("the best layers of the baselines") as step:
            every = screened(every, predictor, predictions.images, labels)
            step.note = f"{len(every)} of {len(predictions.every)} maps go on"
    else:
        warnings.append("No independent evaluator was available: deletion, insertion and ROAD were not measured.")
        every = [c for c in every if c.kind != BASELINE]
    rows = [candidate.row() for candidate in every]
    if predictor is not None:
        with steps.step("deletion, insertion" + ("" if plan.quick else ", ROAD"), len(rows)) as step:
            evaluator_rows(rows, every, predictor, sample, plan, step.tick)
    if request.teacher is not None and rows and not plan.quick:
        warnings.append(TEACHER_BLIND)
        with steps.step("the same by the teacher", len(rows)) as step:
            teacher_rows(
                rows, every, MaskedPredictor.of_teacher(request.teacher, request.compute), sample, plan, step.tick
            )
    part: dict[str, Any] = {
        "n": len(predictions.images),
        "n_referable": int(labels.referable.sum()),
        "leakage": None,
    }
    if predictions.maps is not None:
        fidelity_row(rows[0], answers.student, predictions.maps, labels, subject.point.threshold)
        with steps.step("leakage"):
            part["leakage"] = leakage_part(predictions.maps, labels, predictions.every, subject, predictions.own)
    with steps.step("sanity", len(rows)) as step:
        sanity_rows(rows, every, subject, found, predictions.own, predictions.images, request.compute, step.tick)
    if evaluator is not None:
        warnings += _evaluator_warnings(evaluator, request)
        part["evaluator"] = _evaluator_table(evaluator, request, predictions, labels)
    return part | {"measures": measure_table(rows), "rows": rows, "warnings": warnings}, every


def _evaluator_table(
    evaluator: Evaluator, request: Request, predictions: PredictionSet, labels: TeacherLabels
) -> dict[str, Any]:
    own = ModelProbabilities(evaluator.predictor.whole(predictions.images))
    table = answer_part(request.subject, own, request.pictures.labels, {})["models"]["student"]
    agreement = float((own.student.argmax(1) == labels.labels).mean())
    return evaluator_table(evaluator.run, table, agreement, request.subject.student)


def _evaluator_warnings(evaluator: Evaluator, request: Request) -> list[str]:
    shared = len(evaluator.trained_on & set(request.pictures.keys))
    return [f"The independent evaluator was taught on {shared} photographs of these names."] if shared else []


def _write_maps(path: Path, photographs: Sequence[Candidate], lesions: Sequence[Candidate]) -> None:
    """The maps that were measured, in half precision: a reader may want to measure something else on them."""
    sets = (("photographs", photographs), ("lesions", lesions))
    made = [(f"{name}/{c.key()}", c.maps) for name, of in sets for c in of if c.kind != CONTROL]
    arrays: dict[str, Any] = {name: maps.astype(np.float16) for name, maps in made}
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)
