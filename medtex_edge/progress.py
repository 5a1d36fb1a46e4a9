"""Tell how far a long count is: to a rich console as a bar, to a callback as numbers, or to nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Progress = Console | Callable[[int, int], None] | None  # a callback gets (done, total)


@contextmanager
def counting(progress: Progress, title: str, total: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call once per finished item, from one thread."""
    if not isinstance(progress, Console):
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        yield advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=progress, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
