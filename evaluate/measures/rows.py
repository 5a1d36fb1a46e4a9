"""What is measured of every map, as the rows of evaluation.json: by models that see masked photographs, by masks of
lesions, and by checks that a plausible map may still fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.maps.candidates import Candidate, MapPlan, MapSource, best_layers, by_method, maker
from medtex_edge.evaluate.masked_predictor import MaskedPredictor
from medtex_edge.evaluate.measures.faithfulness import TeacherLabels, deletion, fidelity, insertion
from medtex_edge.evaluate.measures.leakage import leakage, obeys_mask
from medtex_edge.evaluate.measures.road import road
from medtex_edge.evaluate.measures.sanity import max_sensitivity, randomisation, sparsity
from medtex_edge.evaluate.subject import Subject, deployed
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.lesions import LESIONS, Lesions
from medtex_edge.train.metrics.intervals import measured
from medtex_edge.train.metrics.saliency import DILATION, POINTING, kind_scores, photograph_scores, summary
from medtex_edge.train.report.measures import BASELINE, MAP_MEASURES, OURS

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Tick = Callable[[int], None]

# Photographs, evenly over all of them, where all would take too long.
MOST_QUICK = 40
MOST_ROAD = 20  # every imputed picture is a linear system of its own
MOST_SANITY = {OURS: 40, BASELINE: 12}  # every one is explained about a dozen times
SCREENED = 12  # photographs on which the layers of a baseline are compared
SCREEN_STEPS = 4
MOST_TEACHER = 20  # the teacher's figures are there for comparison only: it was not trained on masked photographs


@dataclass(frozen=True)
class MapSample:
    """The photographs that maps are measured on, (N, S, S, 3), and the teacher's answers to the whole ones."""

    images: Images
    labels: TeacherLabels

    def some(self, most: int) -> tuple[MapSample, Ints]:
        """At most so many of them, evenly over all, and which: datasets are often sorted by class."""
        count = len(self.images)
        chosen: Ints = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
        labels = TeacherLabels(self.labels.labels[chosen], self.labels.referable[chosen], self.labels.classes)
        return MapSample(self.images[chosen], labels), chosen


def measure_table(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The table `measures` for the keys that occur in `rows`."""
    keys = {key for row in rows for key in row["measures"]}
    return {
        key: {"title": measure.title, "better": measure.better, "meaning": measure.meaning}
        for key, measure in MAP_MEASURES.items()
        if key in keys
    }


def screened(
    every: Sequence[Candidate], evaluator: MaskedPredictor, images: Images, labels: TeacherLabels
) -> list[Candidate]:
    """Of each attribution method the layers with the best deletion and the best insertion on some photographs; and the
    rest. To measure dozens of layers on all photographs would take most of an hour."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(SCREENED, len(images))).round().astype(int))
    some = TeacherLabels(labels.labels[chosen], labels.referable[chosen], labels.classes)
    kept: list[Candidate] = []
    for group in by_method(every):
        if len(group) == 1:
            kept += group
            continue
        scores = []
        for candidate in group:
            maps = candidate.maps[chosen]
            out = deletion(evaluator, images[chosen], maps, some, steps=SCREEN_STEPS).areas.mean()
            into = insertion(evaluator, images[chosen], maps, some, steps=SCREEN_STEPS).areas.mean()
            scores.append((float(out), float(into)))
        best = {min(range(len(group)), key=lambda i: scores[i][0]), max(range(len(group)), key=lambda i: scores[i][1])}
        kept += [group[i] for i in sorted(best)]
    return kept


def evaluator_rows(
    rows: Sequence[dict[str, Any]],
    every: Sequence[Candidate],
    evaluator: MaskedPredictor,
    sample: MapSample,
    plan: MapPlan,
    tick: Tick,
) -> None:
    """Deletion, insertion and ROAD by the independent evaluator into `rows`, one per candidate."""
    few, chosen = sample.some(MOST_QUICK if plan.quick else len(sample.images))
    fewer, picked = sample.some(MOST_ROAD)
    evaluator = evaluator.cached()
    for row, candidate in zip(rows, every, strict=True):
        out = deletion(evaluator, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        into = insertion(evaluator, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        values = {
            "deletion": out.areas, "insertion": into.areas,
            "deletion_referable": out.referable_areas, "insertion_referable": into.referable_areas,
        }  # fmt: skip
        if not plan.quick:
            values["road"] = road(evaluator.whole, fewer.images, candidate.maps[picked], fewer.labels)
        add(row, values)
        tick(1)


def teacher_rows(
    rows: Sequence[dict[str, Any]],
    every: Sequence[Candidate],
    evaluator: MaskedPredictor,
    sample: MapSample,
    plan: MapPlan,
    tick: Tick,
) -> None:
    """Deletion and insertion by the teacher itself: in addition to the evaluator's, never instead of them."""
    few, chosen = sample.some(MOST_TEACHER)
    evaluator = evaluator.cached()
    for row, candidate in zip(rows, every, strict=True):
        out = deletion(evaluator, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        into = insertion(evaluator, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        add(row, {"deletion_teacher": out.areas, "insertion_teacher": into.areas})
        tick(1)


def fidelity_row(
    row: dict[str, Any], probabilities: Floats, masks: Floats, labels: TeacherLabels, threshold: float
) -> None:
    """Whether the answer under the mask as deployed is the teacher's to the whole photograph; only ours is a mask."""
    found = fidelity(probabilities, masks, labels, threshold)
    add(
        row,
        {
            "fidelity_label": found.label, "fidelity_verdict": found.verdict,
            "fidelity_verdict_referable": found.verdict_referable, "area": found.area,
            "area_referable": found.area_referable,
        },
    )  # fmt: skip


def lesion_part(every: Sequence[Candidate], lesions: Lesions, folder: str, tick: Tick) -> dict[str, Any]:
    """The table `lesions` of evaluation.json: every layer of every method, kinds of lesion for the best layers.

    Of the photographs themselves it holds only their number.
    """
    rows, best = [], dict[int, float]()
    for candidate in every:
        scores = photograph_scores(candidate.maps, lesions.images, lesions.masks["ALL"])
        rows.append({**candidate.row(), "measures": summary({k: v for k, v in scores.items() if k in MAP_MEASURES})})
        best[id(candidate)] = float(rows[-1]["measures"].get("pixel_auc", {}).get("value", -1.0))
        tick(1)
    kinds: dict[str, dict[str, Any]] = {}
    marked = {kind: mask for kind, mask in lesions.masks.items() if kind in LESIONS and mask.any()}
    chosen = best_layers(every, best) if len(marked) > 1 else []
    for candidate in chosen:
        for kind, scores in kind_scores(candidate.maps, lesions.images, marked).items():
            found = summary({k: v for k, v in scores.items() if k in MAP_MEASURES})
            kinds.setdefault(kind, {})[candidate.key()] = found
        tick(1)
    return {
        "n": int(lesions.masks["ALL"].any(axis=(1, 2)).sum()),
        "folder": folder,
        "tolerance": {"dilation": DILATION, "pointing": POINTING},
        "measures": measure_table(rows),
        "rows": rows,
        "kinds": kinds,
    }


def sanity_rows(
    rows: Sequence[dict[str, Any]],
    every: Sequence[Candidate],
    subject: Subject,
    found: Sequence[MapSource],
    own: Images,
    images: Images,
    compute: Compute,
    tick: Callable[[int], None],
) -> None:
    """Sparsity of all maps; stability and the randomisation check of those that can be made again in time.

    `own` and `images` are the same photographs, as the subject takes them and as the attribution methods do.
    """
    for row, candidate in zip(rows, every, strict=True):
        values = {"sparsity": sparsity(candidate.maps)}
        explain, model = _explainer(candidate, subject, found, compute)
        if explain is not None and model is not None:
            most = min(MOST_SANITY[candidate.kind], len(images))
            chosen = np.unique(np.linspace(0, len(images) - 1, most).round().astype(int))
            pictures = (own if candidate.kind == OURS else images)[chosen]
            values["randomisation"] = randomisation(explain, model, pictures)
            moved = max_sensitivity(lambda x, e=explain, m=model: e(m, x), pictures)  # type: ignore[misc]
            # A map that was empty and is not any more has no relative change: it is left out.
            values["max_sensitivity"] = np.where(np.isfinite(moved), moved, np.nan)
        add(row, values)
        tick(1)


def _explainer(
    candidate: Candidate, subject: Subject, found: Sequence[MapSource], compute: Compute
) -> tuple[Callable[[Any, Images], Floats] | None, Any]:
    """A function of (model, images) that makes such maps, and the model; (None, None) where there is none."""
    if candidate.kind == OURS:
        if subject.model is None:
            return None, None
        return lambda model, images: deployed(model, compute)(images)[1], subject.model
    source = next((s for s in found if s.target.of == candidate.of), None)
    if source is None or maker(candidate, source) is None:
        return None, None

    def explain(model: Any, images: Images) -> Floats:
        make = maker(candidate, replace(source, target=replace(source.target, net=model)))
        assert make is not None
        return make(images)

    return explain, source.target.net


def leakage_part(
    maps: Floats, labels: TeacherLabels, every: Sequence[Candidate], subject: Subject, own: Images
) -> dict[str, Any] | None:
    """The table `leakage` of evaluation.json: what of the teacher's verdict can be read from the mask alone, and
    whether the student reads it there. `every` are the candidates, layers in their order, of which Grad-CAM of the
    teacher shows how much place predicts honestly. None with too few photographs of either kind."""
    # The deepest layer: the first ones see edges, not disease.
    places = next((c.maps for c in reversed(every) if c.of == "teacher" and c.name == "gradcam"), None)
    found = leakage(maps, labels.referable, places=places)
    if found is None:
        return None
    table = asdict(found) | {"interval_difference": list(found.interval_difference)}
    if subject.predictor is not None:
        table["obeys_mask"] = obeys_mask(subject.predictor, own, maps, labels.referable, subject.referable)
    return table


def add(row: dict[str, Any], values: dict[str, Any]) -> None:
    """Means of (N,) values, NaN where not defined, with their intervals into the row; what has none is left out."""
    for key, per_photograph in values.items():
        found = measured(per_photograph)
        if found is not None:
            row["measures"][key] = found
