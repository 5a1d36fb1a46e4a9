"""What is measured of every map: by judges that see masked photographs, and by masks of lesions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.evaluator import MaskedPredictor, remembering
from medtex_edge.evaluate.maps.candidates import Candidate, MapPlan, best_layers
from medtex_edge.evaluate.measures.faithfulness import TeacherLabels, deletion, fidelity, insertion
from medtex_edge.evaluate.measures.road import road
from medtex_edge.train.data.lesions import LESIONS, Lesions
from medtex_edge.train.metrics.intervals import measured
from medtex_edge.train.metrics.saliency import DILATION, POINTING, kind_scores, photograph_scores, summary

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Tick = Callable[[int], None]

# Photographs, evenly over all of them, where all would take too long.
MOST_QUICK = 40
MOST_ROAD = 20  # every imputed picture is a linear system of its own
MOST_TEACHER = 20  # the teacher's figures are there for comparison only: it never saw masked photographs

# key -> title, which way is better, what it says
MEASURES = {
    "deletion": ("deletion", "lower", "what is left of the probability of the teacher's class, on average, while the "
                 "most salient detail is taken away first, judged by the independent evaluator"),
    "insertion": ("insertion", "higher", "how much of that probability is there, on average, while the most salient "
                  "detail comes first, judged by the independent evaluator"),
    "deletion_referable": ("deletion, referable", "lower", "the same for the referable probability, over the "
                           "photographs that the teacher calls referable"),
    "insertion_referable": ("insertion, referable", "higher", "the same for the referable probability, over the "
                            "photographs that the teacher calls referable"),
    "road": ("ROAD", "higher", "half the gap between the answers when the least and when the most salient part is "
             "filled in from its surroundings"),
    "deletion_teacher": ("deletion, by the teacher", "lower", "as deletion, judged by the teacher, which never saw "
                         "masked photographs"),
    "insertion_teacher": ("insertion, by the teacher", "higher", "as insertion, judged by the teacher, which never "
                          "saw masked photographs"),
    "fidelity_label": ("class kept", "higher", "the class stays the teacher's when only the mask is seen"),
    "fidelity_verdict": ("verdict kept", "higher", "the verdict stays the teacher's when only the mask is seen"),
    "fidelity_verdict_referable": ("verdict kept, referable", "higher", "the same over the photographs that the "
                                   "teacher calls referable"),
    "area": ("area", "lower", "the share of a photograph's detail that the mask opens"),
    "area_referable": ("area, referable", "lower", "the same over the photographs that the teacher calls referable"),
    "sparsity": ("sparsity (Gini)", "higher", "0 for an even map, towards 1 for a map of few bright points"),
    "max_sensitivity": ("largest change", "lower", "how far the map moves under small shifts and noise"),
    "randomisation": ("kept after shuffling", "lower", "rank correlation with the map of the same model with shuffled "
                      "weights"),
    "pixel_auc": ("pixel AUC", "higher", "the chance that a lesion's pixel is brighter than one beside it; 0.5 is "
                  "guessing"),
    "pointing": ("pointing", "higher", "the fraction of maps whose brightest point lies on a lesion or a few pixels "
                 "from it"),
    "relevance": ("relevance over chance", "higher", "how much of the map lies on lesions, against an even map; 1 is "
                  "chance"),
    "dice": ("Dice", "higher", "overlap with the lesions when the map is cut to the lesions' own area"),
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """The photographs that maps are judged on, (N, S, S, 3), and what the teacher says of the whole ones."""

    images: Images
    labels: TeacherLabels

    def some(self, most: int) -> tuple[Shown, Ints]:
        """At most so many of them, evenly over all, and which: datasets are often sorted by class."""
        count = len(self.images)
        chosen: Ints = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
        labels = TeacherLabels(self.labels.labels[chosen], self.labels.referable[chosen], self.labels.classes)
        return Shown(self.images[chosen], labels), chosen


def meanings(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The table `measures` for the keys that occur in `rows`."""
    there = {key for row in rows for key in row["measures"]}
    return {
        key: dict(zip(("title", "better", "meaning"), words, strict=True))
        for key, words in MEASURES.items()
        if key in there
    }


def judge_rows(
    rows: Sequence[dict[str, Any]],
    every: Sequence[Candidate],
    judge: MaskedPredictor,
    shown: Shown,
    plan: MapPlan,
    tick: Tick,
) -> None:
    """Deletion, insertion and ROAD by the independent judge into `rows`, one per candidate."""
    few, chosen = shown.some(MOST_QUICK if plan.quick else len(shown.images))
    fewer, picked = shown.some(MOST_ROAD)
    judge = remembering(judge)
    for row, candidate in zip(rows, every, strict=True):
        out = deletion(judge, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        into = insertion(judge, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        values = {
            "deletion": out.areas, "insertion": into.areas,
            "deletion_referable": out.referable_areas, "insertion_referable": into.referable_areas,
        }  # fmt: skip
        if not plan.quick:
            values["road"] = road(judge.whole, fewer.images, candidate.maps[picked], fewer.labels)
        add(row, values)
        tick(1)


def teacher_rows(
    rows: Sequence[dict[str, Any]],
    every: Sequence[Candidate],
    judge: MaskedPredictor,
    shown: Shown,
    plan: MapPlan,
    tick: Tick,
) -> None:
    """Deletion and insertion by the teacher itself: beside the judge's, never instead of them."""
    few, chosen = shown.some(MOST_TEACHER)
    judge = remembering(judge)
    for row, candidate in zip(rows, every, strict=True):
        out = deletion(judge, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
        into = insertion(judge, few.images, candidate.maps[chosen], few.labels, steps=plan.steps)
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
    """The table `lesions` of evaluation.json: every layer of every rival, and kinds of lesion for the best layers.

    It holds, beside what is written, nothing of the photographs but their number.
    """
    rows, best = [], dict[int, float]()
    for candidate in every:
        scores = photograph_scores(candidate.maps, lesions.images, lesions.masks["ALL"])
        rows.append({**candidate.row(), "measures": summary({k: v for k, v in scores.items() if k in MEASURES})})
        best[id(candidate)] = float(rows[-1]["measures"].get("pixel_auc", {}).get("value", -1.0))
        tick(1)
    kinds: dict[str, dict[str, Any]] = {}
    marked = {kind: mask for kind, mask in lesions.masks.items() if kind in LESIONS and mask.any()}
    chosen = best_layers(every, best) if len(marked) > 1 else []
    for candidate in chosen:
        for kind, scores in kind_scores(candidate.maps, lesions.images, marked).items():
            found = summary({k: v for k, v in scores.items() if k in MEASURES})
            kinds.setdefault(kind, {})[candidate.key()] = found
        tick(1)
    return {
        "n": int(lesions.masks["ALL"].any(axis=(1, 2)).sum()),
        "folder": folder,
        "tolerance": {"dilation": DILATION, "pointing": POINTING},
        "measures": meanings(rows),
        "rows": rows,
        "kinds": kinds,
    }


def add(row: dict[str, Any], values: dict[str, Any]) -> None:
    """Means of (N,) values, NaN where not defined, with their intervals into the row; what has none is left out."""
    for key, per_photograph in values.items():
        found = measured(per_photograph)
        if found is not None:
            row["measures"][key] = found
