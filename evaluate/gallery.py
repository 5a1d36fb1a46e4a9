"""The cases that a reader should see: every kind of failure first, then the worst, the best, and some by lot.

A gallery of hits persuades and teaches nothing; the cases by lot are drawn from all photographs with a fixed
seed, before anyone looked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.train.report.canvas import name_axes, new_figure, save
from medtex_edge.train.report.plots import blend

ROLES = ("failure", "worst", "best", "random")  # in the order of the report
LIMITS = {"failure": 12, "worst": 4, "best": 4, "random": 6}
OURS = "ours"
CYAN = "#00f0ff"  # seen on orange photographs and on yellow exudates alike
NAMES = {OURS: "our saliency", "gradcam": "Grad-CAM"}

Images = npt.NDArray[np.uint8]
Maps = Mapping[str, npt.NDArray[np.floating[Any]]]
Facts = Mapping[str, Any]


def write_gallery(
    folder: Path,
    images: Images,
    maps: Maps,
    lesions: npt.NDArray[np.bool_] | None,
    facts: Sequence[Facts],
    *,
    limits: Mapping[str, int] | None = None,
    prefix: str = "",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Draw `folder`/gallery/PREFIXnnn.png, one strip per chosen case, and return the entries of evaluation.json.

    `images` (N, S, S, 3) uint8 RGB; `maps`: name -> (N, h, w), "ours" in 0..1 as deployed, others in any range;
    `lesions` (N, S, S), outlined; `facts`, one per photograph: "key" and, where known, "label" (None: not labelled),
    "read" (the class, or a text that opens with "ungradable"), "teacher", "error" (how bad a failure is, larger is
    worse), and the measures "pixel_auc" or "fidelity" by which the worst and the best are found.
    `prefix` keeps two galleries in one folder apart. Raises `ValueError` where the lengths differ, `StorageError`.
    """
    counts = {len(images), len(facts), *(len(m) for m in maps.values()), *(() if lesions is None else (len(lesions),))}
    if len(counts) != 1:
        raise ValueError(f"expected as many maps, masks and facts as photographs, got {sorted(counts)}")
    entries, drawn = [], dict[int, str]()
    for index, role in choose(facts, limits=limits, seed=seed):
        if index not in drawn:
            drawn[index] = f"gallery/{prefix}{len(drawn):03d}.png"
            mask = lesions[index] if lesions is not None else None
            draw_strip(images[index], {name: of[index] for name, of in maps.items()}, mask, folder / drawn[index])
        key = str(facts[index].get("key", index))
        entries.append({"key": key, "role": role, "title": title_of(facts[index]), "file": drawn[index]})
    return entries


def choose(facts: Sequence[Facts], *, limits: Mapping[str, int] | None = None, seed: int = 0) -> list[tuple[int, str]]:
    """(index, role) in the order of the report; a case by lot may also have another role, or the lot would lie."""
    many = {**LIMITS, **(limits or {})}
    failures = [index for index, fact in enumerate(facts) if is_failure(fact)]
    failures.sort(key=lambda index: -_finite(facts[index].get("error"), 0.0))
    measured = next((key for key in ("pixel_auc", "fidelity") if any(_known(fact.get(key)) for fact in facts)), "")
    ranked = sorted((i for i, fact in enumerate(facts) if _known(fact.get(measured))), key=lambda i: facts[i][measured])
    # With few photographs the worst and the best would overlap: each then gets a half.
    half = len(ranked) // 2
    worst, best = ranked[: min(many["worst"], half)], ranked[::-1][: min(many["best"], len(ranked) - half)]
    lot = np.random.default_rng(seed).permutation(len(facts))[: many["random"]].tolist()
    groups = {"failure": failures[: many["failure"]], "worst": worst, "best": best, "random": sorted(lot)}
    return [(index, role) for role in ROLES for index in groups[role]]


def is_failure(fact: Facts) -> bool:
    """Whether the answer differs from the label, or there was none."""
    read, label = fact.get("read"), fact.get("label")
    return str(read).startswith("ungradable") or (label is not None and read is not None and read != label)


def title_of(fact: Facts) -> str:
    """One line: label, answer, teacher's answer, and the measure of the map."""
    label = fact.get("label")
    words = [f"labelled {label}" if label is not None else "no label"]
    words += [f"read {fact['read']}"] if fact.get("read") is not None else []
    words += [f"teacher {fact['teacher']}"] if fact.get("teacher") is not None else []
    for key, name in (("pixel_auc", "pixel AUC"), ("fidelity", "answer kept")):
        words += [f"{name} {float(fact[key]):.2f}"] if _known(fact.get(key)) else []
    return ", ".join(words)


def draw_strip(
    image: Images,
    maps: Mapping[str, npt.NDArray[np.floating[Any]]],
    lesions: npt.NDArray[np.bool_] | None,
    out: Path,
) -> None:
    """One row of panels: photograph, the same with its lesions outlined, and each map upon it.

    Ours is drawn on the scale 0 to 1 of every picture; a rival's map has no scale of its own, so it is stretched
    from its least to its greatest value, as its users see it. Raises `StorageError`.
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
        # Thin: a hundred lesions with broad outlines would hide the map that they are there to judge.
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
