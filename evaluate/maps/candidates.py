"""Every map that is compared: ours, the maps made after the fact at every layer, and those that know nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.evaluator import MaskedPredictor
from medtex_edge.evaluate.maps.attribution import SLOW, Answers, AttributionTarget, attribution_methods, cams
from medtex_edge.evaluate.measures.faithfulness import TeacherLabels, deletion, insertion
from medtex_edge.evaluate.subject import Subject
from medtex_edge.train.compute.depthwise import speed_up_depthwise
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.metrics.saliency import controls
from medtex_edge.train.models.teacher import Teacher, TorchTeacher

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
STRIDE = 4  # pixels per cell of a map
SCREENED = 12  # photographs on which the layers of a rival are tried
SCREEN_STEPS = 4


@dataclass(frozen=True)
class MapPlan:
    """What an evaluation does; `quick` leaves out what takes minutes (RISE, integrated gradients, ROAD)."""

    against: tuple[str, ...]
    quick: bool = False
    steps: int = 8  # of deletion and insertion

    @property
    def methods(self) -> tuple[str, ...]:
        """The rivals that will be made."""
        return tuple(name for name in self.against if not (self.quick and name in SLOW))


@dataclass(frozen=True)
class Candidate:
    """One explanation of all photographs: maps (N, h, w), higher is more important."""

    name: str
    kind: str  # ours, rival, control
    maps: Floats
    of: str = ""  # student or teacher
    layer: str = ""
    seconds: float | None = None

    def row(self) -> dict[str, Any]:
        """Its row in evaluation.json, nothing measured yet."""
        return {
            "name": self.name, "kind": self.kind, "of": self.of, "layer": self.layer, "measures": {},
            "seconds_per_photograph": self.seconds,
        }  # fmt: skip

    def key(self) -> str:
        """Its name in maps.npz and in the tables per kind of lesion."""
        parts = (self.name, self.of, self.layer) if self.kind == "rival" else (self.name,)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class MapSource:
    """A classifier to be explained after the fact, and how it answers under masks, which RISE needs; None: it never
    saw masked photographs, and RISE of it would explain its nonsense."""

    explained: AttributionTarget
    answers: Answers | None


def sources(subject: Subject, teacher: Teacher | None, compute: Compute) -> list[MapSource]:
    """Student and teacher, as far as they show their layers."""
    found = []
    if subject.model is not None and subject.asked is not None:
        student = subject.model.student
        found.append(
            MapSource(AttributionTarget("student", student, subject.size, subject.referable, compute), subject.asked)
        )
    if isinstance(teacher, TorchTeacher):
        explained = AttributionTarget("teacher", teacher.classifier, teacher.size, subject.referable, compute)
        found.append(MapSource(explained, None))
    for source in found:
        speed_up_depthwise(source.explained.net, compute.autocast_dtype)
    return found


def candidates(
    ours: Floats | None,
    seconds: float | None,
    found: Sequence[MapSource],
    images: Images,
    plan: MapPlan,
    tick: Callable[[int], None],
) -> list[Candidate]:
    """All that is compared on `images` (N, S, S, 3); `tick` is called once per method and classifier."""
    grid = ours.shape[1] if ours is not None else images.shape[1] // STRIDE
    result = [Candidate("ours", "ours", ours, "student", "", seconds)] if ours is not None else []
    for source in found:
        made = attribution_methods(
            plan.methods, source.explained, images, grid=grid, answers=source.answers, tick=lambda: tick(1)
        )
        result += [
            Candidate(name, "rival", each.maps, source.explained.of, layer, each.seconds)
            for (name, layer), each in made.items()
        ]
    known = ours if ours is not None else next((c.maps for c in result), None)
    if known is not None:
        result += [Candidate(name, "control", maps) for name, maps in controls(known).items()]
        result.append(Candidate("uniform", "control", np.ones_like(known)))
    return result


def screened(
    every: Sequence[Candidate], judge: MaskedPredictor, images: Images, labels: TeacherLabels
) -> list[Candidate]:
    """Of each rival the layers with the best deletion and the best insertion on some of the photographs; and the
    rest. To measure dozens of layers on all photographs would take most of an hour."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(SCREENED, len(images))).round().astype(int))
    some = TeacherLabels(labels.labels[chosen], labels.referable[chosen], labels.classes)
    kept: list[Candidate] = []
    for group in _by_method(every):
        if len(group) == 1:
            kept += group
            continue
        scores = []
        for candidate in group:
            maps = candidate.maps[chosen]
            out = deletion(judge, images[chosen], maps, some, steps=SCREEN_STEPS).areas.mean()
            into = insertion(judge, images[chosen], maps, some, steps=SCREEN_STEPS).areas.mean()
            scores.append((float(out), float(into)))
        best = {min(range(len(group)), key=lambda i: scores[i][0]), max(range(len(group)), key=lambda i: scores[i][1])}
        kept += [group[i] for i in sorted(best)]
    return kept


def best_layers(every: Sequence[Candidate], values: dict[int, float]) -> list[Candidate]:
    """Of each rival the layer with the highest value; `values` by the candidate's `id`. The rest stays."""
    return [max(group, key=lambda c: values.get(id(c), -1.0)) for group in _by_method(every)]


def _by_method(every: Sequence[Candidate]) -> list[list[Candidate]]:
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in every:
        groups.setdefault((candidate.kind, candidate.name, candidate.of), []).append(candidate)
    return list(groups.values())


def maker(candidate: Candidate, source: MapSource) -> Callable[[Images], Floats] | None:
    """A function that makes a rival's maps of other photographs; None for what would take minutes."""
    if candidate.kind != "rival" or candidate.name in SLOW:
        return None
    grid, layer = candidate.maps.shape[1], candidate.layer
    return lambda images: cams(candidate.name, source.explained, images, grid=grid, only=layer)[layer]
