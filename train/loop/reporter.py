"""The report of a training while it runs: a bar with the losses by name, a line per epoch, and its history."""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from medtex_edge.files import atomic_write
from medtex_edge.progress import ProgressDisplay, Task

Row = dict[str, float | str]
PAUSE = 0.2  # seconds between two updates of the bar


class Reporter:
    """A context manager. On a quiet console, as all but one of several processes have, nothing is shown or logged."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.display = ProgressDisplay(console)
        self._bar: Task | None = None
        self._phase = ""
        self._updated = 0.0
        self._folder = folder
        self._board: Any = None

    def __enter__(self) -> Reporter:
        if not self.display.console.quiet and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder / "tensorboard"))
        return self

    def __exit__(self, *error: object) -> None:
        self.display.__exit__(*error)
        if self._board is not None:
            self._board.close()

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
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{row['phase']}/{name}", value, int(row["step"]))

    def phase_done(self, phase: str, best_epoch: int) -> None:
        """Take the phase's bar away and report its best epoch."""
        if self._bar is not None:
            self._bar.remove()
            self._bar = None
        self.display.message(f"done; the weights of epoch {best_epoch + 1} validate best and are kept", label=phase)

    def resumed(self, row: Row) -> None:
        """Report that a checkpoint was found."""
        self.message(f"resuming after {row['phase']} epoch {int(row['epoch']) + 1}")


def write_history(path: Path, rows: list[Row]) -> None:
    """`history.csv`: one row per epoch, a column per loss term and measure; empty where a phase has none."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
