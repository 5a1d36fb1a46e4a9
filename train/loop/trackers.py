"""Experiment trackers, by `--log NAME`: TensorBoard, MLflow and Weights & Biases, through accelerate's one interface.

A tracker is an `accelerate.tracking.GeneralTracker`: start(), log(values, step), finish().
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medtex_edge.errors import SettingsError

TRACKERS = ("tensorboard", "mlflow", "wandb")  # each is also the name of its package
PROJECT = "medtex-edge"  # the experiment's name in MLflow, the project's in Weights & Biases


def choose_trackers(requested: Sequence[str]) -> tuple[str, ...]:
    """The trackers to use: those requested, or TensorBoard where it is installed and none was requested.

    Raises `SettingsError` for one that is unknown or not installed.
    """
    names = tuple(dict.fromkeys(requested))
    for name in names:
        if name not in TRACKERS:
            raise SettingsError(f"--log: expected one of {', '.join(TRACKERS)}, got {name!r}")
        if not _installed(name):
            raise SettingsError(f"--log {name}: the package {name} is not installed", hint=f"pip install {name}")
    if names:
        return names
    return ("tensorboard",) if _installed("tensorboard") else ()


def open_tracker(name: str, folder: Path) -> Any:
    """Start one tracker for the run in `folder`. Raises `SettingsError` where it cannot start."""
    tracker = _create(name, folder)
    try:
        tracker.start()
    # Each library raises errors of its own, for a login, a server or a disk; all mean that there is no tracker.
    except Exception as error:
        raise SettingsError(
            f"--log {name}: it cannot start: {error}", hint=f"set {name} up, or leave it out"
        ) from error
    return tracker


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _create(name: str, folder: Path) -> Any:
    from accelerate import PartialState, tracking

    PartialState()  # the trackers' own logging asks it which process this is
    create: dict[str, Callable[[], Any]] = {
        "tensorboard": lambda: tracking.TensorBoardTracker("tensorboard", folder),  # into FOLDER/tensorboard
        "mlflow": lambda: tracking.MLflowTracker(PROJECT, run_name=folder.name),
        "wandb": lambda: tracking.WandBTracker(PROJECT, name=folder.name),
    }
    return create[name]()
