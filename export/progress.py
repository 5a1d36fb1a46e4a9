"""What an export shows while it works: the step it is at, and a line with the outcome of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn


class Step:
    """One step under way: `tick` moves its bar, `note` is what its line will say."""

    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=total)
        self.note = ""

    def tick(self, done: int) -> None:
        """So many more of the step's parts are done."""
        self._progress.advance(self._task, done)

    def remove(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)


class Steps:
    """A context manager; on a terminal with a bar for the step under way, else with the lines alone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Step]:
        """A named step; its line appears when it ends well."""
        step = Step(self._progress, name, total)
        start = time.monotonic()
        try:
            yield step
        finally:
            step.remove()
        seconds = time.monotonic() - start
        note = f"  {escape(step.note)}" if step.note else ""
        self._console.print(
            f"[green]✓[/] {escape(name)}{note}  [dim]{seconds:.1f} s[/]", highlight=False, soft_wrap=True
        )

    def say(self, text: str) -> None:
        """A line of plain text that belongs to no step."""
        self._console.print(escape(text), highlight=False)
