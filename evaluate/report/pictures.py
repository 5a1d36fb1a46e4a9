"""Draws the pictures of an evaluation into a folder and gives them back as bytes, for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medtex_edge.evaluate.report.figures import is_number, listed, table
from medtex_edge.evaluate.report.plots import plot_ablation, plot_reliability, plot_rocs
from medtex_edge.train.curve.plot import plot_curve
from medtex_edge.train.report.plots import plot_confusion
from medtex_edge.train.report.wording import MODEL_NAMES

Facts = Mapping[str, Any]


def draw(evaluation: Facts, folder: Path) -> dict[str, bytes]:
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
    if matrix and all(_row(row, len(matrix)) for row in matrix):
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


def _row(row: Any, length: int) -> bool:
    return isinstance(row, list) and len(row) == length and all(is_number(v) and v >= 0 for v in row)
