"""The plots of an evaluation: ROC of several models, calibration, and the ablation of the method's terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from medtex_edge.strictjson import JsonObject
from medtex_edge.train.curve.plot import plot_curve
from medtex_edge.train.metrics.intervals import proportion_interval
from medtex_edge.train.report.canvas import BLUE, GREY, LINES, ORANGE, legend, new_figure, note, save
from medtex_edge.train.report.figures import is_number, listed, table
from medtex_edge.train.report.measures import MEASURES, MODEL_NAMES
from medtex_edge.train.report.plots import plot_confusion

PANELS = ("auc_referable", "pixel_auc", "pointing")  # of the ablation


def draw(evaluation: JsonObject, folder: Path) -> dict[str, bytes]:
    """Write `folder`/NAME.png for each picture whose figures were measured; name -> PNG. Raises `StorageError`."""
    models = {str(k): table(v) for k, v in table(table(evaluation.get("answer")).get("models")).items()}
    student = models.get("student", {})
    pictures: dict[str, Callable[[Path], None]] = {}
    curves = {
        MODEL_NAMES.get(name, name): {
            **table(model.get("roc")),
            "auc": model.get("auc_referable"),
            "point": model.get("operating_point") if name == "student" else None,
        }
        for name, model in models.items()
        if table(model.get("roc"))
    }
    if curves:
        pictures["roc"] = lambda out: plot_rocs(curves, out)
    bins = [table(b) for b in listed(table(student.get("calibration")).get("bins"))]
    if bins:
        pictures["reliability"] = lambda out: plot_reliability(bins, out)
    matrix, classes = listed(student.get("confusion")), listed(table(evaluation.get("subject")).get("classes"))
    names = [str(name) for name in classes] if len(classes) == len(matrix) else [str(i) for i in range(len(matrix))]
    if matrix and all(_is_row(row, len(matrix)) for row in matrix):
        pictures["confusion"] = lambda out: plot_confusion(matrix, names, out)
    if table(table(evaluation.get("curve")).get("methods")):
        pictures["curve"] = lambda out: plot_curve(table(evaluation["curve"]), out)
    rows = [table(row) for row in listed(table(evaluation.get("ablation")).get("rows"))]
    if rows:
        pictures["ablation"] = lambda out: plot_ablation(rows, out)
    drawn = {}
    for name, plot in pictures.items():
        plot(folder / f"{name}.png")
        drawn[name] = (folder / f"{name}.png").read_bytes()
    return drawn


def plot_rocs(models: Mapping[str, JsonObject], out: Path) -> None:
    """ROC curves, one per model: title -> {"fpr": [..], "tpr": [..], "auc": float | None, "point": {...} | None}.

    "point" is an operating point as in the contract, drawn with its 95 % intervals. Raises `StorageError`.
    """
    figure = new_figure(4.8, 4.8)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    drawn = 0
    for colour, (title, model) in zip(LINES, models.items(), strict=False):
        x, y = _series(model.get("fpr")), _series(model.get("tpr"))
        if len(x) > 1 and len(x) == len(y):
            area = model.get("auc")
            name = f"{title}, AUC {area:.3f}" if isinstance(area, float) else title
            axes.plot(x, y, color=colour, linewidth=1.8 if drawn == 0 else 1.2, label=name)
            drawn += 1
        _mark_point(axes, model.get("point"), colour)
    if not drawn:
        note(axes, "no curve: it needs referable photographs and others")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("1 - specificity (fraction of the not referable called referable)")
    axes.set_ylabel("sensitivity (fraction of the referable found)")
    legend(axes, "lower right")
    save(figure, out)


def plot_reliability(bins: Sequence[JsonObject], out: Path) -> None:
    """Stated confidence against the fraction that was right, per bin, with how many photographs each bin holds.

    `bins`: {"low", "high", "confidence", "accuracy", "count"}, empty ones left out (Niculescu-Mizil & Caruana,
    ICML 2005). Bars are the 95 % Clopper-Pearson intervals of the fraction. Raises `StorageError`.
    """
    full = [b for b in bins if _finite(b.get("confidence"), b.get("accuracy")) and (b.get("count") or 0) > 0]
    figure = new_figure(4.8, 4.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="perfect calibration")
    if full:
        stated = np.array([b["confidence"] for b in full], float)
        right = np.array([b["accuracy"] for b in full], float)
        count = np.array([b["count"] for b in full], float)
        low, high = np.transpose([proportion_interval(round(p * n), int(n)) for p, n in zip(right, count, strict=True)])
        upper.errorbar(
            stated, right, yerr=[np.maximum(right - low, 0), np.maximum(high - right, 0)],
            color=BLUE, marker="o", markersize=5, linewidth=1.2, capsize=3, label="measured (95 % interval)",
        )  # fmt: skip
        lower.vlines(stated, 0, count, color=BLUE, linewidth=6, alpha=0.6)
        lower.set_ylim(0, count.max() * 1.15)
    else:
        note(upper, "nothing was measured")
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.set_ylabel("fraction right")
    lower.set_ylabel("photographs")
    lower.set_xlabel("probability that the model gave to its answer")
    legend(upper, "upper left")
    save(figure, out)


def plot_ablation(rows: Sequence[JsonObject], out: Path) -> None:
    """Bars of the mean over the seeds, a dot per seed, one panel per measure; a variant per line, the first is ours.

    `rows`: {"name", MEASURE: [one value per seed]}, MEASURE of `PANELS`. Raises `StorageError`.
    """
    shown = [key for key in PANELS if any(len(_series(row.get(key))) for row in rows)]
    figure = new_figure(2.2 + 2.9 * max(1, len(shown)), 1.0 + 0.34 * max(1, len(rows)))
    if not shown:
        note(figure.add_subplot(), "no variant was measured")
        return save(figure, out)
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, key in zip(panels, shown, strict=True):
        for place, row in enumerate(rows):
            values = _series(row.get(key))
            if len(values):
                colour = ORANGE if place == 0 else BLUE
                axes.barh(place, values.mean(), color=colour, alpha=0.35, height=0.62)
                axes.plot(values, [place] * len(values), "o", color=colour, markersize=3.5)
        found = np.concatenate([_series(row.get(key)) for row in rows])
        # Bars whose differences matter start where guessing is, not at 0; below it they still show.
        start = 0.0 if key == "pointing" else min(0.5, float(found.min()))
        axes.set_xlim(start, min(1.0, float(found.max()) + 0.05) if found.max() <= 1 else float(found.max()) * 1.05)
        axes.set_xlabel(MEASURES[key].title)
    panels[0].set_yticks(range(len(rows)), [str(row.get("name", ""))[:48] for row in rows], parse_math=False)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return save(figure, out)


def _mark_point(axes: Axes, point: Any, colour: str) -> None:
    if not isinstance(point, Mapping) or not _finite(point.get("sensitivity"), point.get("specificity")):
        return
    x, y = 1 - point["specificity"], point["sensitivity"]
    across, up = _series(point.get("specificity_interval")), _series(point.get("sensitivity_interval"))
    xerr = [[max(0.0, x - (1 - across[1]))], [max(0.0, (1 - across[0]) - x)]] if len(across) == 2 else None
    yerr = [[max(0.0, y - up[0])], [max(0.0, up[1] - y)]] if len(up) == 2 else None
    axes.errorbar([x], [y], xerr=xerr, yerr=yerr, color=colour, marker="o", capsize=3, linewidth=1.2)
    axes.annotate("operating point", (x, y), (8, -12), textcoords="offset points", fontsize=8, color=colour)


def _series(value: Any) -> Any:
    """A list of JSON -> (N,) float64; anything that is no list of finite numbers -> (0,)."""
    if not isinstance(value, list | tuple) or not _finite(*value):
        return np.zeros(0)
    return np.array(value, np.float64)


def _finite(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)


def _is_row(row: Any, length: int) -> bool:
    return isinstance(row, list) and len(row) == length and all(is_number(v) and v >= 0 for v in row)
