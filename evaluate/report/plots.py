"""The pictures of an evaluation: ROC of several models, calibration, and the ablation of the method's terms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from medtex_edge.train.metrics.intervals import proportion_interval
from medtex_edge.train.report.canvas import BLUE, GREY, LINES, ORANGE, legend, new_figure, save, say

LABELS = {"auc_referable": "AUC of referable", "pixel_auc": "pixel AUC against lesions", "pointing": "pointing game"}


def plot_rocs(models: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """ROC curves, one per model: title -> {"fpr": [..], "tpr": [..], "auc": float | None, "point": {...} | None}.

    "point" is an operating point as in the contract, drawn with its 95 % intervals. Raises `StorageError`.
    """
    figure = new_figure(4.8, 4.8)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    drawn = 0
    for colour, (title, model) in zip(LINES, models.items(), strict=False):
        x, y = numbers(model.get("fpr")), numbers(model.get("tpr"))
        if len(x) > 1 and len(x) == len(y):
            area = model.get("auc")
            name = f"{title}, AUC {area:.3f}" if isinstance(area, float) else title
            axes.plot(x, y, color=colour, linewidth=1.8 if drawn == 0 else 1.2, label=name)
            drawn += 1
        _mark_point(axes, model.get("point"), colour)
    if not drawn:
        say(axes, "no curve: it takes referable photographs and others")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("1 - specificity (fraction of the not referable called referable)")
    axes.set_ylabel("sensitivity (fraction of the referable found)")
    legend(axes, "lower right")
    save(figure, out)


def plot_reliability(bins: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Stated confidence against the fraction that was right, per bin, with how many photographs each bin holds.

    `bins`: {"low", "high", "confidence", "accuracy", "count"}, empty ones left out (Niculescu-Mizil & Caruana,
    ICML 2005). Bars are the 95 % Clopper-Pearson intervals of the fraction. Raises `StorageError`.
    """
    full = [b for b in bins if _finite(b.get("confidence"), b.get("accuracy")) and (b.get("count") or 0) > 0]
    figure = new_figure(4.8, 4.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="states what it gets")
    if full:
        said = np.array([b["confidence"] for b in full], float)
        right = np.array([b["accuracy"] for b in full], float)
        count = np.array([b["count"] for b in full], float)
        low, high = np.transpose([proportion_interval(round(p * n), int(n)) for p, n in zip(right, count, strict=True)])
        upper.errorbar(
            said, right, yerr=[np.maximum(right - low, 0), np.maximum(high - right, 0)],
            color=BLUE, marker="o", markersize=5, linewidth=1.2, capsize=3, label="measured (95 % interval)",
        )  # fmt: skip
        lower.vlines(said, 0, count, color=BLUE, linewidth=6, alpha=0.6)
        lower.set_ylim(0, count.max() * 1.15)
    else:
        say(upper, "nothing was measured")
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.set_ylabel("fraction right")
    lower.set_ylabel("photographs")
    lower.set_xlabel("probability that the model gave to its answer")
    legend(upper, "upper left")
    save(figure, out)


def plot_ablation(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Bars of the mean over the seeds, a dot per seed, one panel per measure; a variant per line, the first is ours.

    `rows`: {"name", MEASURE: [one value per seed]}, MEASURE of `LABELS`. Raises `StorageError`.
    """
    shown = [key for key in LABELS if any(len(numbers(row.get(key))) for row in rows)]
    figure = new_figure(2.2 + 2.9 * max(1, len(shown)), 1.0 + 0.34 * max(1, len(rows)))
    if not shown:
        say(figure.add_subplot(), "no variant was measured")
        return save(figure, out)
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, key in zip(panels, shown, strict=True):
        for place, row in enumerate(rows):
            values = numbers(row.get(key))
            if len(values):
                colour = ORANGE if place == 0 else BLUE
                axes.barh(place, values.mean(), color=colour, alpha=0.35, height=0.62)
                axes.plot(values, [place] * len(values), "o", color=colour, markersize=3.5)
        found = np.concatenate([numbers(row.get(key)) for row in rows])
        # Bars whose differences matter start where guessing is, not at 0; below it they still show.
        start = 0.0 if key == "pointing" else min(0.5, float(found.min()))
        axes.set_xlim(start, min(1.0, float(found.max()) + 0.05) if found.max() <= 1 else float(found.max()) * 1.05)
        axes.set_xlabel(LABELS[key])
    panels[0].set_yticks(range(len(rows)), [str(row.get("name", ""))[:48] for row in rows], parse_math=False)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return save(figure, out)


def _mark_point(axes: Axes, point: Any, colour: str) -> None:
    if not isinstance(point, Mapping) or not _finite(point.get("sensitivity"), point.get("specificity")):
        return
    x, y = 1 - point["specificity"], point["sensitivity"]
    across, up = numbers(point.get("specificity_interval")), numbers(point.get("sensitivity_interval"))
    xerr = [[max(0.0, x - (1 - across[1]))], [max(0.0, (1 - across[0]) - x)]] if len(across) == 2 else None
    yerr = [[max(0.0, y - up[0])], [max(0.0, up[1] - y)]] if len(up) == 2 else None
    axes.errorbar([x], [y], xerr=xerr, yerr=yerr, color=colour, marker="o", capsize=3, linewidth=1.2)
    axes.annotate("operating point", (x, y), (8, -12), textcoords="offset points", fontsize=8, color=colour)


def numbers(value: Any) -> Any:
    """A list of JSON -> (N,) float64; anything that is no list of finite numbers -> (0,)."""
    if not isinstance(value, list | tuple) or not _finite(*value):
        return np.zeros(0)
    return np.array(value, np.float64)


def _finite(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
