"""Other trainings to compare with the evaluated one: variants, baselines, other seeds, and a less-data curve.

What they measured of themselves is taken, so they must have been measured on the same photographs. A run is named by
what its settings change, and runs that differ by their seed alone are one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medtex_edge.errors import DataError
from medtex_edge.train.config import METHOD_WEIGHTS, TrainConfig
from medtex_edge.train.curve.curve import TITLES
from medtex_edge.train.report.figures import is_number, read_json_object
from medtex_edge.train.run_folder import Run, load_run

WITHOUT = {
    "out": "without L_out", "mid": "without L_mid", "label": "without labels", "local": "without L_local",
    "budget": "without the budget", "tv": "without total variation",
}  # fmt: skip
# What a run is not named by: the seed, and what changes nothing but rounding and time.
SAME = {"seed", "precision", "compiled", "method", "weights"}
MEASURE_KEYS = {
    "auc_referable": ("student", "auc_referable"), "pixel_auc": ("saliency", "pixel_auc"),
    "pointing": ("saliency", "pointing"), "mean_area": ("saliency", "mean_area"),
}  # fmt: skip


def other_runs(mine: Path, others: Sequence[Path]) -> dict[str, Any]:
    """The table `ablation` of evaluation.json: {"rows": [{"name", MEASURE: [one value per seed]}]}, `mine` first.

    Raises `DataError` for what is no finished run, or was measured on other photographs.
    """
    first = load_run(mine)
    grouped: dict[str, list[Run]] = {}
    for run in (first, *map(load_run, others)):
        if run.card.get("data_fingerprint") != first.card.get("data_fingerprint"):
            raise DataError(
                f"{run.path} was measured on other photographs than {mine}",
                hint="runs are comparable where --data, its columns and its split are the same",
            )
        grouped.setdefault(variant(run.config, first.config), []).append(run)
    return {"rows": [{"name": name, **_measurements(runs, first)} for name, runs in grouped.items()]}


def variant(config: TrainConfig, whole: TrainConfig) -> str:
    """The name of this training by its differences from `whole`; the name of `whole` where there are none."""
    same = config.method == whole.method
    changes = [] if same else [TITLES[config.method]]
    expected = asdict(whole.weights if same else METHOD_WEIGHTS[config.method])
    for term, weight in asdict(config.weights).items():
        if weight != expected[term]:
            changes.append(f"{term} x {weight:g}" if weight else WITHOUT[term])
    usual = asdict(whole)
    for key, value in asdict(config).items():
        # The baseline is the method's own.
        if key not in SAME and value != usual[key] and (same or key != "baseline"):
            changes.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join(changes) or TITLES[whole.method]


def all_finite(value: Any) -> bool:
    """Whether every number in a JSON value is one."""
    if isinstance(value, dict | list):
        return all(map(all_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _measurements(runs: Sequence[Run], first: Run) -> dict[str, list[float]]:
    masks = (first.metrics.get("saliency") or {}).get("masks")
    found: dict[str, list[float]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        for measure, (part, key) in MEASURE_KEYS.items():
            table = run.metrics.get(part) or {}
            # Figures on other lesion masks than ours cannot be compared with ours.
            comparable = key not in ("pixel_auc", "pointing") or table.get("masks") == masks
            if comparable and is_number(value := table.get(key)):
                found.setdefault(measure, []).append(float(value))
    return found


def read_curve(path: Path, fingerprint: str) -> dict[str, Any]:
    """A curve.json, or the folder that holds one; `fingerprint`: of the photographs of the run ("": unknown).

    Raises `DataError` where it is no curve, or one of other photographs.
    """
    file = path / "curve.json" if path.is_dir() else path
    found = read_json_object(file)
    if found is None or found.get("kind") != "curve":
        raise DataError(f"{file} is no less-data curve", hint="name a folder that `medtex-edge curve --out` wrote")
    if not all_finite(found):
        raise DataError(f"{file} holds a number that is none (NaN or infinite)", hint="make it again")
    if fingerprint and found.get("data_fingerprint") not in (None, fingerprint):
        raise DataError(f"{file} was measured on other photographs than the evaluated run")
    return found
