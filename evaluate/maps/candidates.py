"""Every map that is compared: ours, those of attribution methods at every layer, and controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.maps.attribution import SLOW, attribution_methods
from medtex_edge.evaluate.maps.cams import cams
from medtex_edge.evaluate.maps.target import AttributionTarget
from medtex_edge.evaluate.masked_predictor import PredictMasked
from medtex_edge.evaluate.subject import Subject
from medtex_edge.train.compute.depthwise import speed_up_depthwise
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.metrics.saliency import controls
from medtex_edge.train.models.teacher import Teacher, TorchTeacher
from medtex_edge.train.report.measures import BASELINE, CONTROL, OURS

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
STRIDE = 4  # pixels per cell of a map


@dataclass(frozen=True)
class MapPlan:
    """What an evaluation does; `quick` leaves out what takes minutes (RISE, integrated gradients, ROAD)."""

    against: tuple[str, ...]
    quick: bool = False
    steps: int = 8  # of deletion and insertion

    @property
    def methods(self) -> tuple[str, ...]:
        """The attribution methods that will be run."""
        return tuple(name for name in self.against if not (self.quick and name in SLOW))


@dataclass(frozen=True)
class Candidate:
    """One explanation of all photographs: maps (N, h, w), higher is more important."""

    name: str
    kind: str  # OURS, BASELINE, CONTROL
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
        parts = (self.name, self.of, self.layer) if self.kind == BASELINE else (self.name,)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class MapSource:
    """A classifier to be explained after training, and its masked predictor, which RISE needs. None: it was never
    trained on masked photographs, and RISE of it would explain nonsense."""

    target: AttributionTarget
    predict: PredictMasked | None


def sources(subject: Subject, teacher: Teacher | None, compute: Compute) -> list[MapSource]:
    """Student and teacher, as far as they show their layers."""
    found = []
    if subject.model is not None and subject.predictor is not None:
        student = subject.model.student
        found.append(
            MapSource(
                AttributionTarget("student", student, subject.size, subject.referable, compute), subject.predictor
            )
        )
    if isinstance(teacher, TorchTeacher):
        target = AttributionTarget("teacher", teacher.classifier, teacher.size, subject.referable, compute)
        found.append(MapSource(target, None))
    for source in found:
        speed_up_depthwise(source.target.net, compute.autocast_dtype)
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
    result = [Candidate("ours", OURS, ours, "student", "", seconds)] if ours is not None else []
    for source in found:
        made = attribution_methods(
            plan.methods, source.target, images, grid=grid, predict=source.predict, tick=lambda: tick(1)
        )
        result += [
            Candidate(name, BASELINE, each.maps, source.target.of, layer, each.seconds)
            for (name, layer), each in made.items()
        ]
    known = ours if ours is not None else next((c.maps for c in result), None)
    if known is not None:
        result += [Candidate(name, CONTROL, maps) for name, maps in controls(known).items()]
        result.append(Candidate("uniform", CONTROL, np.ones_like(known)))
    return result


def best_layers(every: Sequence[Candidate], values: dict[int, float]) -> list[Candidate]:
    """Of each attribution method the layer with the highest value; `values` by the candidate's `id`. The rest stays."""
    return [max(group, key=lambda c: values.get(id(c), -1.0)) for group in by_method(every)]


def by_method(every: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates in groups of one method on one model, each group in the order of its layers."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in every:
        groups.setdefault((candidate.kind, candidate.name, candidate.of), []).append(candidate)
    return list(groups.values())


def maker(candidate: Candidate, source: MapSource) -> Callable[[Images], Floats] | None:
    """A function that makes the same maps of other photographs; None for an attribution method that takes minutes."""
    if candidate.kind != BASELINE or candidate.name in SLOW:
        return None
    grid, layer = candidate.maps.shape[1], candidate.layer
    return lambda images: cams(candidate.name, source.target, images, grid=grid, only=layer)[layer]
