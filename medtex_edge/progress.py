"""The one progress display: a bar for what is under way, a line for each step that is done, or nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text


class Task:
    """One bar. `note` is what the line of a finished step adds to its name."""

    def __init__(self, bars: Bars, name: str, total: float | None) -> None:
        self._bars = bars
        self._id = bars.add_task(escape(name), total=total, detail="")
        self.note = ""

    def tick(self, done: float = 1) -> None:
        """Count `done` more parts as finished."""
        self._bars.advance(self._id, done)

    def update(self, done: float, *, name: str | None = None, detail: str = "") -> None:
        """Set how many parts are finished, the bar's name (None: as it was) and a text behind the bar."""
        name = None if name is None else escape(name)
        self._bars.update(self._id, completed=done, description=name, detail=escape(detail))

    def remove(self) -> None:
        """Take the bar away."""
        self._bars.remove_task(self._id)
        if not self._bars.tasks and not self._bars.disable:
            # Between tasks another display may draw on the same console: rich draws one at a time.
            self._bars.stop()


class ProgressDisplay:
    """A context manager around a piece of work. Not thread-safe.

    On a terminal it draws a bar per task under way. On any other console it prints the lines of finished steps and
    the messages alone. Without a console, or on a quiet one, it shows nothing: this is the display for libraries.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(quiet=True)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Count(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[detail]}"),
            console=self.console,
            transient=True,
            disable=not self.draws_bars,
        )

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self.draws_bars:
            self._bars.stop()  # on another console it would print an empty line

    @property
    def draws_bars(self) -> bool:
        """Whether a bar can be seen, so that a costly text for it is worth computing."""
        return self.console.is_terminal and not self.console.quiet

    def add(self, name: str, total: float | None = None) -> Task:
        """A bar that the caller removes. `total`: its number of parts, 1.0 for a fraction, None where it is unknown."""
        self._bars.start()
        return Task(self._bars, name, total)

    @contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        """A bar for the length of the block, which leaves no line."""
        task = self.add(name, total)
        try:
            yield task
        finally:
            task.remove()

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Task]:
        """A bar for the length of the block; a line with its name, note and duration follows where it succeeds."""
        start = time.monotonic()
        with self.task(name, total) as task:
            yield task
        seconds = time.monotonic() - start
        note = f"  {escape(task.note)}" if task.note else ""
        self.console.print(
            f"[green]✓[/] {escape(name)}{note}  [dim]{seconds:.1f} s[/]", highlight=False, soft_wrap=True
        )

    def message(self, text: str, *, label: str = "") -> None:
        """Print a line of plain text that belongs to no step; `label` precedes it in bold."""
        self.console.print((f"[bold]{escape(label)}[/] " if label else "") + escape(text), highlight=False)


class _Count(MofNCompleteColumn):
    """'3/12' of a whole number of parts, '25 %' of a fraction, nothing where the total is unknown."""

    def render(self, task: Bar) -> Text:
        if task.total is None:
            return Text("")
        return Text(f"{task.percentage:.0f} %") if isinstance(task.total, float) else super().render(task)


Progress = ProgressDisplay | Callable[[int, int], None] | None  # a callback gets (done, total)


@contextmanager
def counting(progress: Progress, title: str, total: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call once per finished item, from one thread; `progress` receives the count."""
    if isinstance(progress, ProgressDisplay):
        with progress.task(title, total) as task:
            yield task.tick
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    yield advance
