"""The pictures of a run: loss terms, ROC, confusion, and photographs with their saliency.

Each function writes one PNG, whole or not at all (`StorageError`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from medtex_edge.contract import OperatingPoint
from medtex_edge.train.metrics.classification import auc, roc
from medtex_edge.train.report.canvas import BLUE, GREY, ORANGE, name_axes, new_figure, note, save

SALIENCY_MAP = "viridis"  # uniform in lightness, so that a step of 0.1 is equally visible anywhere on the scale
SALIENCY_OPACITY = 0.75  # of a pixel whose saliency is 1
NOT_CURVES = frozenset({"phase", "epoch", "step"})

Floats = npt.NDArray[np.floating]
HistoryRow = Mapping[str, float | str]


def plot_history(rows: Sequence[HistoryRow], out: Path) -> None:
    """One small panel per column of history.csv, phases distinguished by shade; losses blue, validation orange.

    Each column has its own panel and scale: the terms differ by orders of magnitude, and on shared axes the
    largest would hide the rest.
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in NOT_CURVES]
    curves = {name: values for name in names if np.isfinite(values := _column(rows, name)).any()}
    across = min(4, max(1, len(curves)))
    down = max(1, math.ceil(len(curves) / across))
    figure = new_figure(max(5.0, 2.9 * across), 2.1 * down + 0.5)
    if not curves:
        note(figure.add_subplot(), "nothing was recorded")
    for index, (name, values) in enumerate(curves.items()):
        axes = figure.add_subplot(down, across, index + 1)
        _draw_curve(axes, values, rows, ORANGE if name.startswith("val_") else BLUE)
        name_axes(axes, name)
        if index >= len(curves) - across:
            axes.set_xlabel("epoch, all phases in order")
    save(figure, out)


def plot_roc(scores: npt.ArrayLike, truth: npt.ArrayLike, point: OperatingPoint | None, out: Path) -> None:
    """ROC of the referable probability; the sealed operating point with its 95 % intervals.

    `scores` (N,) higher is more referable; `truth` (N,) bool. With one class only there is no curve, and the
    picture notes it.
    """
    score, positive = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=bool)
    figure = new_figure(4.6, 4.6)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    curve = roc(score, positive)
    if curve is None:
        note(axes, f"all {len(positive)} photographs are {'' if positive.any() else 'not '}referable: no curve")
    else:
        name = f"area under the curve {auc(score, positive):.3f}"
        axes.plot(curve["fpr"], curve["tpr"], color=BLUE, linewidth=1.8, label=name)
        axes.fill_between(curve["fpr"], curve["tpr"], color=BLUE, alpha=0.08, linewidth=0)
        name_axes(axes, f"{positive.sum()} referable, {(~positive).sum()} not")
    if point is not None:
        _mark_point(axes, point)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("1 - specificity (fraction of the not referable called referable)")
    axes.set_ylabel("sensitivity (fraction of the referable found)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False, fontsize=8)
    save(figure, out)


def _draw_curve(axes: Axes, values: Floats, rows: Sequence[HistoryRow], colour: str) -> None:
    """One column of the history; the line breaks between phases, where what it measures may have changed."""
    marker = "." if len(values) < 40 else ""
    for start, end in _phases(rows):
        part = np.flatnonzero(np.isfinite(values[start:end])) + start
        axes.plot(part + 1, values[part], color=colour, marker=marker, linewidth=1.4)
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.set_ymargin(0.18)  # room for the names of the phases
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _shade_phases(axes, rows)


def plot_confusion(matrix: npt.ArrayLike, classes: Sequence[str], out: Path) -> None:
    """(C, C) counts, rows are the labels, columns the answers. The shade is the fraction of the row."""
    counts = np.asarray(matrix, dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(totals, 1)
    side = 1.9 + 0.62 * len(classes)
    figure = new_figure(side + 0.9, side)
    axes = figure.add_subplot()
    picture = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ink = "white" if fractions[row, column] > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=ink)
    names = [name if len(name) <= 18 else name[:17] + "…" for name in classes]
    places = range(len(names))
    axes.set_xticks(places, names, rotation=0 if max(map(len, names)) < 6 else 40, parse_math=False)
    axes.set_yticks(places, [f"{n} ({t})" for n, t in zip(names, totals[:, 0], strict=True)], parse_math=False)
    axes.set_xlabel("answer of the model")
    axes.set_ylabel("label (photographs)")
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.04)
    bar.set_label("fraction of the label's photographs")
    save(figure, out)


def plot_sheet(
    images: npt.NDArray[np.uint8],
    saliency: Floats,
    titles: Sequence[str],
    out: Path,
    lesions: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Photographs with their saliency on a scale fixed at 0..1, the same for every photograph and sheet.

    `images` (N, S, S, 3) uint8 RGB; `saliency` (N, h, w) in 0..1; `lesions` (N, S, S) are outlined, if given.
    A map is never stretched to its own maximum: a faint map stays faint.
    """
    across = min(3, max(1, len(images)))
    down = max(1, math.ceil(len(images) / across))
    figure = new_figure(4.1 * across + 0.6, 2.25 * down + 0.2)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (axes, image, map_, title) in enumerate(zip(grid.flat, images, saliency, titles, strict=False)):
        side = image.shape[1]
        pair = np.concatenate([image, np.full_like(image[:, :6], 255), blend(image, map_)], axis=1)
        axes.imshow(pair, interpolation="antialiased")
        name_axes(axes, title)
        if lesions is not None and lesions[index].any():
            for offset, colour in ((0, "white"), (side + 6, ORANGE)):
                x, y = np.arange(side) + offset, np.arange(image.shape[0])
                axes.contour(x, y, lesions[index], levels=[0.5], colors=[colour], linewidths=0.7)
    scale = ScalarMappable(Normalize(0, 1), SALIENCY_MAP)
    bar = figure.colorbar(scale, ax=grid, fraction=0.02, pad=0.01, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.set_label("saliency: the share of detail that the student sees")
    save(figure, out)


def blend(image: npt.NDArray[np.uint8], saliency: Floats) -> npt.NDArray[np.uint8]:
    """(S, S, 3) uint8, (h, w) in 0..1 -> (S, S, 3) uint8: the photograph greyed, the map in colour on it."""
    height, width = image.shape[:2]
    smooth = cv2.resize(np.asarray(saliency, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    level = np.clip(np.nan_to_num(smooth), 0, 1)
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    colour = np.asarray(colormaps[SALIENCY_MAP](level), np.float32)[..., :3] * 255
    alpha = SALIENCY_OPACITY * level[..., None]
    mixed: npt.NDArray[np.uint8] = np.rint(grey[..., None] * (1 - alpha) + colour * alpha).astype(np.uint8)
    return mixed


def _mark_point(axes: Axes, point: OperatingPoint) -> None:
    x, y = 1 - point.specificity, point.sensitivity
    (low_y, high_y), (low_s, high_s) = point.sensitivity_interval, point.specificity_interval
    axes.errorbar(
        [x],
        [y],
        # The bounds may touch the estimate, and rounding may put them a hair on the wrong side of it.
        xerr=[[max(0.0, x - (1 - high_s))], [max(0.0, (1 - low_s) - x)]],
        yerr=[[max(0.0, y - low_y)], [max(0.0, high_y - y)]],
        color=ORANGE,
        marker="o",
        capsize=3,
        linewidth=1.2,
        label=f"operating point, threshold {point.threshold:.3g}\n(95 % intervals)",
    )


def _phases(rows: Sequence[HistoryRow]) -> list[tuple[int, int]]:
    """The half-open ranges of rows that share a phase."""
    names = [str(row.get("phase", "")) for row in rows]
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    return list(zip(starts, [*starts[1:], len(names)], strict=True))


def _shade_phases(axes: Axes, rows: Sequence[HistoryRow]) -> None:
    phases = _phases(rows)
    for number, (start, end) in enumerate(phases):
        if number % 2:
            axes.axvspan(start + 0.5, end + 0.5, color=GREY, alpha=0.13, linewidth=0)
        if len(phases) > 1:
            place, name = (start + 0.6, 0.99), str(rows[start].get("phase", ""))
            label = axes.annotate(name, place, xycoords=axes.get_xaxis_transform(), color=GREY, va="top")
            label.set(fontsize=7, parse_math=False)


def _column(rows: Sequence[HistoryRow], name: str) -> Floats:
    def number(value: float | str) -> float:
        try:
            return float(value)
        except ValueError:  # an empty cell of a CSV: a term that this phase has not
            return math.nan

    return np.array([number(row.get(name, "")) for row in rows])
