"""What a training shows while it runs: a bar with the losses by name, a line per epoch, TensorBoard if installed."""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from medtex_edge.files import atomic_write

Row = dict[str, float | str]
PAUSE = 0.2  # seconds between two pictures of the bar


class Reporter:
    """A context manager: the bar lives inside. On a dumb terminal or in a log only the epochs' lines appear, and on
    a quiet console, as all but one of several processes have, nothing."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[losses]}"),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._phase = ""
        self._shown = 0.0
        self._folder = folder
        self._board: Any = None

    def __enter__(self) -> Reporter:
        if not self.console.quiet and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder / "tensorboard"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    @property
    def counter(self) -> Console | None:
        """Where reading and cropping may draw a bar of their own, before the training's begins."""
        return self.console if self.console.is_terminal and not self.console.quiet else None

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, highlight=False)

    def step(self, phase: str, epoch: int, epochs: int, done: int, steps: int, sums: dict[str, Tensor]) -> None:
        """After each step; `sums` are the epoch's loss terms so far, added up."""
        if self._task is None or self._phase != phase:
            self._progress.start()
            self._task = self._progress.add_task(phase, total=epochs * steps, losses="")
            self._phase = phase
        # Each number that is shown waits for the GPU to have computed it.
        now = time.monotonic()
        if not self._progress.disable and (now - self._shown > PAUSE or done == steps):
            self._shown = now
            losses = "  ".join(f"{name} {float(value) / done:.3f}" for name, value in sums.items())
            self._progress.update(
                self._task,
                completed=epoch * steps + done,
                losses=losses,
                description=f"{phase} epoch {epoch + 1}/{epochs}",
            )

    def epoch(self, row: Row) -> None:
        """After each epoch's validation."""
        numbers = {k: v for k, v in row.items() if isinstance(v, float) and k != "seconds"}
        words = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        self.say(f"[bold]{row['phase']}[/] {int(row['epoch']) + 1:3d}  {words}  ({float(row['seconds']):.0f} s)")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{row['phase']}/{name}", value, int(row["step"]))

    def phase_done(self, phase: str, best_epoch: int) -> None:
        """After a phase: its bar goes, its best epoch is said."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self.say(f"[bold]{phase}[/] done; the weights of epoch {best_epoch + 1} validate best and are kept")

    def resumed(self, row: Row) -> None:
        """Once, where a checkpoint was found."""
        self.say(f"resuming after {row['phase']} epoch {int(row['epoch']) + 1}")


def write_history(path: Path, rows: list[Row]) -> None:
    """`history.csv`: one row per epoch, a column per loss term and measure; empty where a phase has none."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
