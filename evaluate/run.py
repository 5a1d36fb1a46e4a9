"""Everything that is known of a run or a bundle, gathered into one folder: evaluation.json, maps.npz, gallery/."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.answers import Answers, answer_part, point_of_teacher
from medtex_edge.evaluate.cases import PredictionSet, write_cases
from medtex_edge.evaluate.evaluator import MaskedPredictor, ask_teacher, evaluator_facts
from medtex_edge.evaluate.maps.candidates import Candidate, MapPlan, MapSource, candidates, screened, sources
from medtex_edge.evaluate.measures.faithfulness import TeacherLabels, teacher_labels
from medtex_edge.evaluate.measures.rows import Shown, fidelity_row, judge_rows, lesion_part, meanings, teacher_rows
from medtex_edge.evaluate.measures.sanity_rows import leakage_part, sanity_rows
from medtex_edge.evaluate.subject import Images, Pictures, Subject
from medtex_edge.files import atomic_write, write_json
from medtex_edge.progress import ProgressDisplay
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.lesions import Lesions
from medtex_edge.train.models.teacher import Teacher
from medtex_edge.train.run_folder import Run

Floats = npt.NDArray[np.float32]
TEACHER_BLIND = (
    "The teacher never saw masked photographs: on those it answers by chance, and the figures judged by it are there "
    "for comparison only."
)
LESIONS_SEEN = (
    "Photographs with lesion masks may be among those that were trained on: maps are scored on them, never accuracy."
)


@dataclass(frozen=True)
class Judge:
    """The independent evaluator: its run, how it is asked, and which photographs it was taught on."""

    run: Run
    asked: MaskedPredictor
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
    judge: Judge | None = None
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
    seen = _look(request, pictures.at(subject.size), pictures.at(_largest(request)), found, steps, "photographs")
    with steps.step("answers"):
        answer = answer_part(subject, seen.answers, pictures.labels, request.groups)
    explanation, kept = _explanation(request, seen, found, steps)
    lesions, marked, on_lesions = None, None, None
    if request.lesions is not None:
        # At the largest input, so that a rival on the teacher sees no enlarged picture.
        marked = request.lesions(_largest(request))
        own = request.lesions(subject.size).images
        on_lesions = _look(request, own, marked.images, found, steps, "lesion photographs")
        with steps.step("maps against lesion masks", len(on_lesions.every) + 1) as step:
            lesions = lesion_part(on_lesions.every, marked, request.lesions_folder, step.tick)
    with steps.step("gallery"):
        gallery = write_cases(out, subject, pictures, seen, marked, on_lesions, lesions)
    _write_maps(out / "maps.npz", kept, on_lesions.every if on_lesions else [])
    evaluation = {
        "kind": "evaluation",
        **provenance,
        "subject": subject.facts(),
        "data": pictures.facts(),
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
    """The side at which no judge sees an enlarged picture."""
    sizes = [request.subject.size]
    sizes += [request.teacher.size] if request.teacher is not None else []
    sizes += [request.judge.run.size] if request.judge is not None else []
    return max(sizes)


def _look(
    request: Request, own: Images, images: Images, found: list[MapSource], steps: ProgressDisplay, name: str
) -> PredictionSet:
    """Answers and maps of the photographs, once at the subject's own size and once at the largest one."""
    subject = request.subject
    with steps.step(f"reading {len(own)} {name}") as step:
        start = time.perf_counter()
        probabilities, maps = subject.read(own)
        seconds = (time.perf_counter() - start) / max(len(own), 1)
        whole = subject.whole(own) if subject.whole is not None else None
        theirs = ask_teacher(request.teacher, request.compute).whole(images) if request.teacher is not None else None
        step.note = f"{seconds * 1000:.0f} ms each" if maps is not None else ""
    answers = Answers(probabilities, whole, theirs, point_of_teacher(request.teacher_spec))
    with steps.step(f"maps after the fact, {name}", max(len(request.plan.methods) * len(found), 1)) as step:
        every = candidates(maps, seconds if maps is not None else None, found, images, request.plan, step.tick)
        step.note = f"{len(every)} kinds of map"
    return PredictionSet(own, images, answers, maps, every)


def _explanation(
    request: Request, seen: PredictionSet, found: list[MapSource], steps: ProgressDisplay
) -> tuple[dict[str, Any], list[Candidate]]:
    subject, plan, judge = request.subject, request.plan, request.judge
    answers, warnings = seen.answers, []
    # What has to be explained is the teacher's answer; without a teacher, the student's own.
    reference, threshold = answers.teacher, answers.teacher_threshold()
    if reference is None:
        reference, threshold = answers.student, subject.point.threshold
        warnings.append("No teacher was given: what is to be kept is the student's own answer.")
    labels = teacher_labels(reference, subject.referable, threshold)
    shown = Shown(seen.images, labels)
    every = seen.every
    asked = judge.asked if judge else None
    if asked is not None:
        with steps.step("the best layers of the rivals") as step:
            every = screened(every, asked, seen.images, labels)
            step.note = f"{len(every)} of {len(seen.every)} maps go on"
    else:
        warnings.append("No independent evaluator was at hand: deletion, insertion and ROAD were not measured.")
        every = [c for c in every if c.kind != "rival"]
    rows = [candidate.row() for candidate in every]
    if asked is not None:
        with steps.step("deletion, insertion" + ("" if plan.quick else ", ROAD"), len(rows)) as step:
            judge_rows(rows, every, asked, shown, plan, step.tick)
    if request.teacher is not None and rows and not plan.quick:
        warnings.append(TEACHER_BLIND)
        with steps.step("the same by the teacher", len(rows)) as step:
            teacher_rows(rows, every, ask_teacher(request.teacher, request.compute), shown, plan, step.tick)
    part: dict[str, Any] = {"n": len(seen.images), "n_referable": int(labels.referable.sum()), "leakage": None}
    if seen.maps is not None:
        fidelity_row(rows[0], answers.student, seen.maps, labels, subject.point.threshold)
        with steps.step("leakage"):
            part["leakage"] = leakage_part(seen.maps, labels, seen.every, subject, seen.own)
    with steps.step("sanity", len(rows)) as step:
        sanity_rows(rows, every, subject, found, seen.own, seen.images, request.compute, step.tick)
    if judge is not None:
        warnings += _judge_warnings(judge, request)
        part["evaluator"] = _judge_facts(judge, request, seen, labels)
    return part | {"measures": meanings(rows), "rows": rows, "warnings": warnings}, every


def _judge_facts(judge: Judge, request: Request, seen: PredictionSet, labels: TeacherLabels) -> dict[str, Any]:
    own = Answers(judge.asked.whole(seen.images))
    table = answer_part(request.subject, own, request.pictures.labels, {})["models"]["student"]
    agreement = float((own.student.argmax(1) == labels.labels).mean())
    return evaluator_facts(judge.run, table, agreement, request.subject.student)


def _judge_warnings(judge: Judge, request: Request) -> list[str]:
    shared = len(judge.trained_on & set(request.pictures.keys))
    return [f"The independent evaluator was taught on {shared} photographs of these names."] if shared else []


def _write_maps(path: Path, photographs: Sequence[Candidate], lesions: Sequence[Candidate]) -> None:
    """The maps that were measured, in half precision: a reader may want to measure them in another way."""
    sets = (("photographs", photographs), ("lesions", lesions))
    made = [(f"{name}/{c.key()}", c.maps) for name, of in sets for c in of if c.kind != "control"]
    arrays: dict[str, Any] = {name: maps.astype(np.float16) for name, maps in made}
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)
