"""The report of a training while it runs: a bar with the losses by name, a line per epoch, trackers, a history."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from medtex_edge.files import atomic_write
from medtex_edge.progress import ProgressDisplay, Task
from medtex_edge.train.loop.trackers import choose_trackers, open_tracker

Row = dict[str, float | str]
PAUSE = 0.2  # seconds between two updates of the bar


class Reporter:
    """A context manager. On a quiet console, as all but one of several processes have, nothing is shown or logged.

    `log` names the trackers that receive every epoch's figures; see `choose_trackers`. Raises `SettingsError` for one
    that is not installed, and on entry for one that cannot start.
    """

    def __init__(self, console: Console, folder: Path, log: Sequence[str] = ()) -> None:
        self.display = ProgressDisplay(console)
        self._bar: Task | None = None
        self._phase = ""
        self._updated = 0.0
        self._folder = folder
        self._log = choose_trackers(log)
        self._trackers: dict[str, Any] = {}
        self._started: set[str] = set()
        self._steps = _StepCount()

    def __enter__(self) -> Reporter:
        # TensorBoard writes into the run folder: it starts with the first epoch, so that a refusal leaves no folder.
        self._start(name for name in self._log if name != "tensorboard")
        return self

    def __exit__(self, *error: object) -> None:
        self.display.__exit__(*error)
        for name in tuple(self._trackers):
            self._track(name, lambda tracker: tracker.finish())

    def message(self, text: str) -> None:
        """Print a line of plain text above the bar."""
        self.display.message(text)

    def step(self, phase: str, epoch: int, epochs: int, done: int, steps: int, sums: dict[str, Tensor]) -> None:
        """Report a step. `sums` are the epoch's loss terms so far, added up."""
        if self._bar is None or self._phase != phase:
            self._bar, self._phase = self.display.add(phase, epochs * steps), phase
        # Each number that is shown waits for the GPU to have computed it.
        now = time.monotonic()
        if self.display.draws_bars and (now - self._updated > PAUSE or done == steps):
            self._updated = now
            losses = "  ".join(f"{name} {float(value) / done:.3f}" for name, value in sums.items())
            self._bar.update(epoch * steps + done, name=f"{phase} epoch {epoch + 1}/{epochs}", detail=losses)

    def epoch(self, row: Row) -> None:
        """Report an epoch after its validation."""
        numbers = {k: v for k, v in row.items() if isinstance(v, float) and k != "seconds"}
        text = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        label = f"{row['phase']} {int(row['epoch']) + 1:3d}"
        self.display.message(f" {text}  ({float(row['seconds']):.0f} s)", label=label)
        self._start(name for name in self._log if name == "tensorboard" and name not in self._started)
        values, step = {f"{row['phase']}/{name}": value for name, value in numbers.items()}, self._steps.total(row)
        for name in tuple(self._trackers):
            self._track(name, lambda tracker: tracker.log(values, step=step))

    def phase_done(self, phase: str, best_epoch: int) -> None:
        """Take the phase's bar away and report its best epoch."""
        if self._bar is not None:
            self._bar.remove()
            self._bar = None
        self.display.message(f"done; the weights of epoch {best_epoch + 1} validate best and are kept", label=phase)

    def resumed(self, history: Sequence[Row]) -> None:
        """Report that a checkpoint with the rows of these epochs was found."""
        for row in history:
            self._steps.total(row)
        self.message(f"resuming after {history[-1]['phase']} epoch {int(history[-1]['epoch']) + 1}")

    def _start(self, names: Iterable[str]) -> None:
        if self.display.console.quiet:
            return
        for name in names:
            self._started.add(name)
            self._trackers[name] = open_tracker(name, self._folder)

    def _track(self, name: str, call: Callable[[Any], None]) -> None:
        """Call a tracker. One that fails is dropped with a warning: its server must not end a training of hours."""
        try:
            call(self._trackers[name])
        except Exception as error:  # of any library
            del self._trackers[name]
            self.message(f"warning: --log {name} stopped: {error}; history.csv still receives every epoch")


class _StepCount:
    """Counts steps over all phases: Weights & Biases refuses a step that is smaller than the one before."""

    def __init__(self) -> None:
        self._phase, self._before, self._last = "", 0, 0

    def total(self, row: Row) -> int:
        """Steps up to this epoch; `row["step"]` counts those of its phase."""
        if row["phase"] != self._phase:
            self._phase, self._before = str(row["phase"]), self._last
        self._last = self._before + int(row["step"])
        return self._last


def write_history(path: Path, rows: list[Row]) -> None:
    """`history.csv`: one row per epoch, a column per loss term and measure; empty where a phase has none."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
