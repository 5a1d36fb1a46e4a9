"""Checks that a map may fail although it looks right: is it stable, does it come from what was learnt, does it leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.maps.candidates import Candidate, MapSource, maker
from medtex_edge.evaluate.measures.faithfulness import TeacherLabels
from medtex_edge.evaluate.measures.leakage import leakage, obeys_mask
from medtex_edge.evaluate.measures.rows import add
from medtex_edge.evaluate.measures.sanity import max_sensitivity, randomisation, sparsity
from medtex_edge.evaluate.subject import Subject, deployed
from medtex_edge.train.compute.device import Compute

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
MOST = {"ours": 40, "rival": 12}  # photographs; every one is explained about a dozen times


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

    `own` and `images` are the same photographs, as the subject takes them and as the rivals do.
    """
    for row, candidate in zip(rows, every, strict=True):
        values = {"sparsity": sparsity(candidate.maps)}
        explain, model = _explained(candidate, subject, found, compute)
        if explain is not None and model is not None:
            most = min(MOST[candidate.kind], len(images))
            chosen = np.unique(np.linspace(0, len(images) - 1, most).round().astype(int))
            pictures = (own if candidate.kind == "ours" else images)[chosen]
            values["randomisation"] = randomisation(explain, model, pictures)
            moved = max_sensitivity(lambda x, e=explain, m=model: e(m, x), pictures)  # type: ignore[misc]
            # A map that was empty and is not any more has changed without measure: left out, and the count says so.
            values["max_sensitivity"] = np.where(np.isfinite(moved), moved, np.nan)
        add(row, values)
        tick(1)


def _explained(
    candidate: Candidate, subject: Subject, found: Sequence[MapSource], compute: Compute
) -> tuple[Callable[[Any, Images], Floats] | None, Any]:
    """A function of (model, images) that makes such maps, and the model; (None, None) where there is none."""
    if candidate.kind == "ours":
        if subject.model is None:
            return None, None
        return lambda model, images: deployed(model, compute)(images)[1], subject.model
    source = next((s for s in found if s.explained.of == candidate.of), None)
    if source is None or maker(candidate, source) is None:
        return None, None

    def explain(model: Any, images: Images) -> Floats:
        make = maker(candidate, replace(source, explained=replace(source.explained, net=model)))
        assert make is not None
        return make(images)

    return explain, source.explained.net


def leakage_part(
    maps: Floats, labels: TeacherLabels, every: Sequence[Candidate], subject: Subject, own: Images
) -> dict[str, Any] | None:
    """The table `leakage` of evaluation.json: what of the teacher's verdict can be read from the mask alone, and
    whether the student reads it there. `every` are the candidates, layers in their order, of which Grad-CAM of the
    teacher shows how much place tells honestly. None with too few photographs of either kind."""
    # The deepest layer: the first ones see edges, not disease.
    places = next((c.maps for c in reversed(every) if c.of == "teacher" and c.name == "gradcam"), None)
    found = leakage(maps, labels.referable, places=places)
    if found is None:
        return None
    table = asdict(found) | {"interval_difference": list(found.interval_difference)}
    if subject.asked is not None:
        table["obeys_mask"] = obeys_mask(subject.asked, own, maps, labels.referable, subject.referable)
    return table
