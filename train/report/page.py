"""The HTML of a report: one file that opens offline, in light, dark and on paper.

The HTML itself is in Jinja2 templates (`templates/`) that escape every value: a `str` is text, and only
`Markup`, which the functions here return, is HTML. Images are data URIs. The content policy forbids the page to
load or run anything, so that a hostile class name would be inert even if it were not escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

EMPTY = Markup()


class Cell(NamedTuple):
    """A cell of `compare`: its text, a small note under it, and a style ("best" or none)."""

    text: str
    note: str = ""
    kind: str = ""


class Interval(NamedTuple):
    """A value in 0..1 with its bounds, and what it belongs to."""

    label: str
    value: float
    low: float
    high: float


def join(parts: Iterable[Markup]) -> Markup:
    """Parts of a page in their order."""
    return EMPTY.join(parts)


def page(title: str, body: Sequence[Markup]) -> str:
    """The whole document; `title` is text."""
    return _environment().get_template("page.html").render(title=title, body=body)


def title(text: str) -> Markup:
    """The title of the page."""
    return _part("title", text)


def heading(text: str, anchor: str = "") -> Markup:
    """A section's title; `anchor` is what `contents` points at."""
    return _part("heading", text, anchor)


def subheading(text: str) -> Markup:
    """A title within a section."""
    return _part("subheading", text)


def contents(sections: Sequence[tuple[str, str]]) -> Markup:
    """Links to the sections of this page, (anchor, title) each."""
    return _part("contents", sections)


def paragraph(text: str, kind: str = "") -> Markup:
    """One paragraph of text; `kind` is a style's name."""
    return _part("paragraph", text, kind)


def warning(*lines: str) -> Markup:
    """A boxed remark that must not be overlooked."""
    return _part("warning", lines)


def bullets(lines: Sequence[str]) -> Markup:
    """A list of sentences."""
    return _part("bullets", lines)


def footer(text: str) -> Markup:
    """The last line of the page."""
    return _part("footer", text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> Markup:
    """A table of text; the first column names the row, the others are aligned as numbers or as text."""
    return _part("table", head, rows, numbers)


def compare(head: Sequence[str], rows: Sequence[tuple[str, str, Sequence[Cell]]]) -> Markup:
    """A table that compares methods: rows are (title, kind, cells); the kind is a row's kind in evaluation.json."""
    return _part("compare", head, rows)


def folded(summary: str, content: Markup) -> Markup:
    """HTML that opens on demand."""
    return _part("folded", summary, content)


def details(summary: str, text: str) -> Markup:
    """A long text that opens on demand."""
    return _part("details", summary, text)


def figure(png: bytes, caption: str, alternative: str) -> Markup:
    """A picture inside the page."""
    return _part("figure", base64.b64encode(png).decode("ascii"), caption, alternative)


def side_by_side(figures: Sequence[Markup]) -> Markup:
    """Small pictures in one row where the window is wide enough."""
    return _part("group", "side", figures)


def cases(figures: Sequence[Markup]) -> Markup:
    """Wide pictures one under another."""
    return _part("group", "cases", figures)


def interval_chart(rows: Sequence[Interval], axis: str, low: float = 0.5, high: float = 1.0) -> Markup:
    """Values with their intervals as one picture, on an axis that is the same in every report."""
    if not rows:
        return EMPTY
    low = min(low, *(row.low for row in rows))
    left, right, step = 230, 610, 34

    def x(value: float) -> str:
        return f"{left + (right - left) * (min(max(value, low), high) - low) / (high - low):.1f}"

    ticks = [(x(tick), f"{tick:.2g}") for tick in (low + (high - low) * i / 5 for i in range(6))]
    lines = [
        {"y": step * index + 22, "label": row.label[:32], "value": f"{row.value:.3f}"}
        | {"low": x(row.low), "high": x(row.high), "x": x(row.value)}
        for index, row in enumerate(rows)
    ]
    description = "; ".join(f"{r.label} {r.value:.3f}, {r.low:.3f} to {r.high:.3f}" for r in rows)
    return _part("interval_chart", lines, ticks, axis, description, left, right, step * len(rows) + 8)


def _part(name: str, *values: Any) -> Markup:
    macro = getattr(_environment().get_template("parts.html").module, name)
    return Markup(macro(*values))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _printable(value: Any) -> Any:
    """Text with its control characters replaced, since HTML has no place for them; what is already HTML stays."""
    if isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value))
