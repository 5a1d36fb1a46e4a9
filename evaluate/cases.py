"""The cases that the report shows: which photographs, with which facts and which maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.answers import Answers
from medtex_edge.evaluate.gallery import write_gallery
from medtex_edge.evaluate.maps.candidates import Candidate
from medtex_edge.evaluate.subject import Images, Pictures, Subject
from medtex_edge.train.data.lesions import Lesions
from medtex_edge.train.metrics.saliency import photograph_scores

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PredictionSet:
    """One set of photographs with everything that was said of them."""

    own: Images  # (N, size, size, 3), as the subject takes them
    images: Images  # (N, S, S, 3), S the largest size that a model takes
    answers: Answers
    maps: Floats | None
    every: list[Candidate]


def write_cases(
    out: Path,
    subject: Subject,
    pictures: Pictures,
    seen: PredictionSet,
    marked: Lesions | None,
    on_lesions: PredictionSet | None,
    lesions: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Draw cases among the photographs, then among those with lesion masks, the latter with their score."""
    if seen.maps is None:
        return []
    layer = _shown_layer(lesions, seen)
    entries: list[dict[str, Any]] = []
    if on_lesions is not None and marked is not None and on_lesions.maps is not None:
        masks = marked.masks["ALL"]
        scores = photograph_scores(on_lesions.maps, marked.images, masks)["pixel_auc"]
        facts = [_facts(subject, on_lesions.answers, index, key) for index, key in enumerate(marked.keys)]
        for fact, score in zip(facts, scores, strict=True):
            fact["pixel_auc"] = float(score)
        entries = write_gallery(out, marked.images, _drawn(on_lesions, layer), masks, facts, prefix="lesion-")
    facts = [_facts(subject, seen.answers, index, key) for index, key in enumerate(pictures.keys)]
    for index, label in enumerate(pictures.labels):
        if label >= 0:
            facts[index]["label"] = subject.classes[label]
            facts[index]["error"] = 1 - float(seen.answers.student[index, label])
    return write_gallery(out, seen.images, _drawn(seen, layer), None, facts) + entries


def _facts(subject: Subject, answers: Answers, index: int, key: str) -> dict[str, Any]:
    names = subject.classes
    fact: dict[str, Any] = {"key": key, "read": names[int(answers.student[index].argmax())]}
    if answers.teacher is not None:
        fact["teacher"] = names[int(answers.teacher[index].argmax())]
    return fact


def _shown_layer(lesions: dict[str, Any] | None, seen: PredictionSet) -> tuple[str, str]:
    """(of, layer) of the Grad-CAM that is drawn: the one that finds lesions best, else the student's deepest."""
    if lesions is not None:
        rows = [row for row in lesions["rows"] if row["name"] == "gradcam" and "pixel_auc" in row["measures"]]
        if rows:
            best = max(rows, key=lambda row: float(row["measures"]["pixel_auc"]["value"]))
            return best["of"], best["layer"]
    made = [c for c in seen.every if c.name == "gradcam"]
    last = next((c for c in reversed(made) if c.of == "student"), made[-1] if made else None)
    return (last.of, last.layer) if last else ("", "")


def _drawn(seen: PredictionSet, layer: tuple[str, str]) -> dict[str, Floats]:
    assert seen.maps is not None
    cam = next((c.maps for c in seen.every if c.name == "gradcam" and (c.of, c.layer) == layer), None)
    return {"ours": seen.maps} | ({} if cam is None else {"gradcam": cam})
