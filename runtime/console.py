"""What a run says on the terminal: a line per photograph, a status line for streams, the summary as a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from medtex_edge.errors import StorageError
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading, Verdict
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.summary import Summary

_STATUS_S = 0.2
_ORDER = ("read", "quality", "prepare", "infer", "gpu", "draw", "write", "age")


def printable(line: str) -> str:
    """The line with control characters escaped: a file name can hold terminal commands."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in line)


def print_line(console: Console, line: str) -> None:
    """Print the line as it is: `printable`, and no markup of rich's."""
    console.print(printable(line), markup=False)


class Lines:
    """A sink that prints one line per photograph."""

    name = "lines"

    def write(self, reading: Reading, pixels: Pixels | None = None) -> None:
        """Print. Raises `StorageError` where nobody listens any more."""
        if reading.verdict is Verdict.UNGRADABLE:
            reason = reading.reason.value if reading.reason else ""
            answer = f"{reason}: {reading.detail}" if reading.detail else reason
        else:
            probability = 0.0 if reading.probabilities is None else float(reading.probabilities.max())
            answer = f"P(refer) {reading.referable_probability:.3f}  {reading.label} {probability:.3f}"
        try:
            click.echo(printable(f"{reading.verdict.value:<14}{answer}  {reading.source}"))
        except OSError as error:
            raise StorageError(f"cannot write to standard output: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is held open."""

    def abandon(self) -> None:
        """Nothing can be taken back."""


class Status:
    """The line that changes while a stream runs, and the news of a source that is lost or back."""

    def __init__(self, console: Console, source: FrameSource, print_line: Callable[[str], None]) -> None:
        self._source = source
        self._on_message = print_line
        self._shown = 0.0
        self._lost = False
        # Photographs print a line each; a pipe or a log wants no line that changes.
        self._status = console.status("waiting for the first frame") if self._wanted(console) else None

    def tick(self, pipeline: Any, progress: str = "") -> None:
        """Called by the pipeline's main thread. `progress`: of an engine that is being built."""
        lost_s = pipeline.lost_s
        if (lost_s > 0) != self._lost:
            self._lost = lost_s > 0
            news = "gives no frames any more, opening it again" if self._lost else "is back"
            self._on_message(f"{self._source.name} {news}")
        now = time.monotonic()
        if self._status is None or now - self._shown < _STATUS_S:
            return
        self._shown = now
        reading = pipeline.last
        if self._lost:
            self._status.update(f"NOT LIVE: {printable(self._source.name)} lost for {lost_s:.0f} s")
        elif reading is not None:
            value = reading.referable_probability
            answer = f"P(refer) {value:.2f}" if value is not None else str(reading.reason and reading.reason.value)
            engine = f"engine {printable(progress)}  " if progress else ""
            self._status.update(
                f"frame {reading.frame}  {reading.verdict.value}  {answer}  age {reading.age_ms:.0f} ms  "
                f"{pipeline.frames_per_second:.0f} frames/s  {engine}(Ctrl-C ends)"
            )

    def __enter__(self) -> Status:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def _wanted(self, console: Console) -> bool:
        return console.is_terminal and self._source.stream


def print_summary(summary: Summary) -> None:
    """The counts, then a table of the stages, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    show = partial(print_line, console)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.most_common()) or "none"
    show("")
    show(f"{summary.source}: {summary.ended} after {summary.seconds:.1f} s")
    show(f"  frames    {summary.read} read, {summary.scored} scored, {summary.dropped} dropped for a newer one")
    show(f"  verdicts  {verdicts}")
    if summary.refused:
        show(f"  refused   {', '.join(f'{count} {reason}' for reason, count in summary.refused.most_common())}")
    if summary.recoveries:
        show(f"  recovered {summary.recoveries} times")
    for sink in summary.sinks:
        if sink["name"] == Lines.name:
            continue
        lost = f", {sink['lost']} lost" if sink["lost"] else ""
        show(f"  {sink['name']}: {sink['written']} written{lost}{': ' + sink['error'] if sink['error'] else ''}")
    for note in summary.notes:
        show(f"  note: {note}")
    table = Table("stage", title="milliseconds", title_justify="left")
    for name in ("median", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    for stage in sorted(summary.stages, key=lambda s: _ORDER.index(s) if s in _ORDER else len(_ORDER)):
        row = summary.stages[stage].to_json()
        table.add_row(stage, *(f"{row[name]:.2f}" for name in ("median", "p95", "p99", "max")))
    console.print(table)
    show(f"{summary.frames_per_second:.1f} readings/s by {summary.backend}")
