"""The cases that a reader should see: every kind of failure first, then the worst, the best, and a random sample.

A gallery of hits persuades and teaches nothing. The random sample is drawn from all photographs with a fixed seed,
independently of what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.evaluate.answers import ModelProbabilities
from medtex_edge.evaluate.maps.candidates import Candidate
from medtex_edge.evaluate.subject import Pictures, Subject
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.data.lesions import Lesions
from medtex_edge.train.metrics.saliency import photograph_scores
from medtex_edge.train.report.canvas import name_axes, new_figure, save
from medtex_edge.train.report.measures import METHOD_NAMES, OURS
from medtex_edge.train.report.plots import blend

ROLES = ("failure", "worst", "best", "random")  # in the order of the report
LIMITS = {"failure": 12, "worst": 4, "best": 4, "random": 6}
CYAN = "#00f0ff"  # seen on orange photographs and on yellow exudates alike
NAMES = METHOD_NAMES | {OURS: "our saliency"}

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Maps = Mapping[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class PredictionSet:
    """One set of photographs with the answers and the maps of them."""

    own: Images  # (N, size, size, 3), as the subject takes them
    images: Images  # (N, S, S, 3), S the largest size that a model takes
    answers: ModelProbabilities
    maps: Floats | None
    every: list[Candidate]


def write_cases(
    out: Path,
    subject: Subject,
    pictures: Pictures,
    predictions: PredictionSet,
    marked: Lesions | None,
    on_lesions: PredictionSet | None,
    lesions: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Draw cases among the photographs, then among those with lesion masks, the latter with their score."""
    if predictions.maps is None:
        return []
    layer = _drawn_layer(lesions, predictions)
    entries: list[dict[str, Any]] = []
    if on_lesions is not None and marked is not None and on_lesions.maps is not None:
        masks = marked.masks["ALL"]
        scores = photograph_scores(on_lesions.maps, marked.images, masks)["pixel_auc"]
        records = [_record(subject, on_lesions.answers, index, key) for index, key in enumerate(marked.keys)]
        for record, score in zip(records, scores, strict=True):
            record["pixel_auc"] = float(score)
        entries = write_gallery(out, marked.images, _drawn(on_lesions, layer), masks, records, prefix="lesion-")
    records = [_record(subject, predictions.answers, index, key) for index, key in enumerate(pictures.keys)]
    for index, label in enumerate(pictures.labels):
        if label >= 0:
            records[index]["label"] = subject.classes[label]
            records[index]["error"] = 1 - float(predictions.answers.student[index, label])
    return write_gallery(out, predictions.images, _drawn(predictions, layer), None, records) + entries


def _record(subject: Subject, answers: ModelProbabilities, index: int, key: str) -> dict[str, Any]:
    names = subject.classes
    record: dict[str, Any] = {"key": key, "read": names[int(answers.student[index].argmax())]}
    if answers.teacher is not None:
        record["teacher"] = names[int(answers.teacher[index].argmax())]
    return record


def _drawn_layer(lesions: dict[str, Any] | None, predictions: PredictionSet) -> tuple[str, str]:
    """(of, layer) of the Grad-CAM that is drawn: the one that finds lesions best, else the student's deepest."""
    if lesions is not None:
        rows = [row for row in lesions["rows"] if row["name"] == "gradcam" and "pixel_auc" in row["measures"]]
        if rows:
            best = max(rows, key=lambda row: float(row["measures"]["pixel_auc"]["value"]))
            return best["of"], best["layer"]
    made = [c for c in predictions.every if c.name == "gradcam"]
    last = next((c for c in reversed(made) if c.of == "student"), made[-1] if made else None)
    return (last.of, last.layer) if last else ("", "")


def _drawn(predictions: PredictionSet, layer: tuple[str, str]) -> dict[str, Floats]:
    assert predictions.maps is not None
    cam = next((c.maps for c in predictions.every if c.name == "gradcam" and (c.of, c.layer) == layer), None)
    return {"ours": predictions.maps} | ({} if cam is None else {"gradcam": cam})


def write_gallery(
    folder: Path,
    images: Images,
    maps: Maps,
    lesions: npt.NDArray[np.bool_] | None,
    records: Sequence[JsonObject],
    *,
    limits: Mapping[str, int] | None = None,
    prefix: str = "",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Draw `folder`/gallery/PREFIXnnn.png, one strip per chosen case, and return the entries of evaluation.json.

    `images` (N, S, S, 3) uint8 RGB; `maps`: name -> (N, h, w), "ours" in 0..1 as deployed, others in any range;
    `lesions` (N, S, S), outlined; `records`, one per photograph: "key" and, where known, "label" (None: not labelled),
    "read" (the class, or a text that opens with "ungradable"), "teacher", "error" (how bad a failure is, larger is
    worse), and the measures "pixel_auc" or "fidelity" by which the worst and the best are found.
    `prefix` keeps two galleries in one folder apart. Raises `ValueError` where the lengths differ, `StorageError`.
    """
    counts = {
        len(images),
        len(records),
        *(len(m) for m in maps.values()),
        *(() if lesions is None else (len(lesions),)),
    }
    if len(counts) != 1:
        raise ValueError(f"expected as many maps, masks and records as photographs, got {sorted(counts)}")
    entries, drawn = [], dict[int, str]()
    for index, role in choose(records, limits=limits, seed=seed):
        if index not in drawn:
            drawn[index] = f"gallery/{prefix}{len(drawn):03d}.png"
            mask = lesions[index] if lesions is not None else None
            draw_strip(images[index], {name: of[index] for name, of in maps.items()}, mask, folder / drawn[index])
        key = str(records[index].get("key", index))
        entries.append({"key": key, "role": role, "title": title_of(records[index]), "file": drawn[index]})
    return entries


def choose(
    records: Sequence[JsonObject], *, limits: Mapping[str, int] | None = None, seed: int = 0
) -> list[tuple[int, str]]:
    """(index, role) in the order of the report; a random case may also have another role."""
    many = {**LIMITS, **(limits or {})}
    failures = [index for index, record in enumerate(records) if is_failure(record)]
    failures.sort(key=lambda index: -_finite(records[index].get("error"), 0.0))
    measured = next(
        (key for key in ("pixel_auc", "fidelity") if any(_known(record.get(key)) for record in records)), ""
    )
    ranked = sorted(
        (i for i, record in enumerate(records) if _known(record.get(measured))), key=lambda i: records[i][measured]
    )
    # With few photographs the worst and the best would overlap: each then gets a half.
    half = len(ranked) // 2
    worst, best = ranked[: min(many["worst"], half)], ranked[::-1][: min(many["best"], len(ranked) - half)]
    sample = np.random.default_rng(seed).permutation(len(records))[: many["random"]].tolist()
    groups = {"failure": failures[: many["failure"]], "worst": worst, "best": best, "random": sorted(sample)}
    return [(index, role) for role in ROLES for index in groups[role]]


def is_failure(record: JsonObject) -> bool:
    """Whether the answer differs from the label, or there was none."""
    read, label = record.get("read"), record.get("label")
    return str(read).startswith("ungradable") or (label is not None and read is not None and read != label)


def title_of(record: JsonObject) -> str:
    """One line: label, answer, teacher's answer, and the measure of the map."""
    label = record.get("label")
    parts = [f"labelled {label}" if label is not None else "no label"]
    parts += [f"read {record['read']}"] if record.get("read") is not None else []
    parts += [f"teacher {record['teacher']}"] if record.get("teacher") is not None else []
    for key, name in (("pixel_auc", "pixel AUC"), ("fidelity", "answer kept")):
        parts += [f"{name} {float(record[key]):.2f}"] if _known(record.get(key)) else []
    return ", ".join(parts)


def draw_strip(
    image: Images,
    maps: Mapping[str, npt.NDArray[np.floating[Any]]],
    lesions: npt.NDArray[np.bool_] | None,
    out: Path,
) -> None:
    """One row of panels: photograph, the same with its lesions outlined, and each map upon it.

    Ours is drawn on the scale 0 to 1 of every picture; other maps have no scale of their own, so each is stretched
    from its least to its greatest value, as is usual. Raises `StorageError`.
    """
    panels = [("photograph", image, "")]
    panels += [("lesions marked by hand", image, CYAN)] if lesions is not None else []
    for name, values in maps.items():
        picture = blend(image, values) if name == OURS else blend(image, _stretched(values))
        panels.append((NAMES.get(name, name), picture, "white" if lesions is not None else ""))
    figure = new_figure(2.3 * len(panels), 2.45)
    for axes, (name, picture, line) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.set_axis_off()
        name_axes(axes, name)
        # Thin: a hundred lesions with broad outlines would hide the map that they are drawn for.
        if line and lesions is not None and lesions.any() and not lesions.all():
            axes.contour(lesions.astype(float), levels=[0.5], colors=[line], linewidths=0.5)
    save(figure, out)


def _stretched(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """(h, w) in any range -> (h, w) in 0..1; a flat map is 0."""
    plain = np.nan_to_num(np.asarray(values, np.float32))
    spread = float(plain.max() - plain.min())
    stretched: npt.NDArray[np.floating[Any]] = (plain - plain.min()) / spread if spread > 0 else np.zeros_like(plain)
    return stretched


def _known(value: Any) -> bool:
    return isinstance(value, int | float | np.floating) and math.isfinite(value)


def _finite(value: Any, otherwise: float) -> float:
    return float(value) if _known(value) else otherwise
