"""The plot of the less-data curve: quality against the fraction of labels, with every seed as a dot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from medtex_edge.train.report.canvas import GREY, LINES, legend, name_axes, new_figure, note, save
from medtex_edge.train.report.figures import is_number
from medtex_edge.train.report.measures import MEASURES

PANELS = ("auc_referable", "accuracy")
DASHES = ("-", "--", "-.", ":")  # in addition to colours, for black and white prints


def plot_curve(curve: Mapping[str, Any], out: Path) -> None:
    """Draw a `curve.json` as one PNG: mean over the seeds as a line, their range as a band, each run as a dot.

    The band is the range, not a confidence interval, which three seeds do not give. Points whose measure is missing
    are left out; a plot without points carries a message. Raises `StorageError`.
    """
    shown = [measure for measure in PANELS if _by_method(curve, measure)]
    figure = new_figure(5.4 * max(1, len(shown)), 4.0)
    if not shown:
        note(figure.add_subplot(), "no point of the curve was measured")
    for index, measure in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), index + 1)
        _draw(axes, _by_method(curve, measure))
        if measure == "auc_referable":
            _draw_teacher(axes, curve)
        name_axes(axes, f"{MEASURES[measure].title}, on {curve.get('selected_on') or 'val'} photographs")
        axes.set_ylabel(MEASURES[measure].title)
        axes.set_xlabel("fraction of the labelled training photographs")
        legend(axes, "lower right")
    save(figure, out)


def by_fraction(points: Any, measure: str) -> dict[float, dict[int, float]]:
    """Points of one method -> fraction -> seed -> the measure, sorted by fraction; missing values are left out."""
    found: dict[float, dict[int, float]] = defaultdict(dict)
    for point in points if isinstance(points, list) else ():
        if not isinstance(point, Mapping):
            continue
        fraction, value, seed = (point.get(key) for key in ("fraction", measure, "seed"))
        if is_number(fraction) and fraction > 0 and is_number(value):
            found[float(fraction)][seed if isinstance(seed, int) else len(found)] = float(value)
    return dict(sorted(found.items()))


def _by_method(curve: Mapping[str, Any], measure: str) -> dict[str, dict[float, dict[int, float]]]:
    methods = curve.get("methods")
    found = {
        str(method.get("title") or name): by_fraction(method.get("points"), measure)
        for name, method in (methods.items() if isinstance(methods, Mapping) else ())
        if isinstance(method, Mapping)
    }
    return {title: values for title, values in found.items() if values}


def _draw(axes: Axes, methods: Mapping[str, dict[float, dict[int, float]]]) -> None:
    for index, (title, values) in enumerate(methods.items()):
        colour, dashes = LINES[index % len(LINES)], DASHES[(index // len(LINES) + index) % len(DASHES)]
        x = list(values)
        runs = [list(seeds.values()) for seeds in values.values()]
        axes.plot(x, [float(np.mean(run)) for run in runs], dashes, color=colour, linewidth=1.8, label=title)
        axes.fill_between(x, [min(r) for r in runs], [max(r) for r in runs], color=colour, alpha=0.13, linewidth=0)
        for fraction, run in zip(x, runs, strict=True):
            axes.plot([fraction] * len(run), run, ".", color=colour, markersize=4)
    ticks = sorted({fraction for values in methods.values() for fraction in values})
    axes.set_xscale("log")  # every doubling of the labels is one step
    axes.set_xticks(ticks, [f"{100 * tick:.3g} %" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.6)


def _draw_teacher(axes: Axes, curve: Mapping[str, Any]) -> None:
    teacher = curve.get("teacher")
    seeds = teacher.get("auc_referable") if isinstance(teacher, Mapping) else None
    values = [float(value) for value in seeds.values() if is_number(value)] if isinstance(seeds, Mapping) else []
    if values:
        axes.axhline(float(np.mean(values)), color=GREY, linewidth=1.2, linestyle=":", label="teacher, all labels")
        axes.axhspan(min(values), max(values), color=GREY, alpha=0.1, linewidth=0)
