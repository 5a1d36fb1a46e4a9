"""The shell of report.html: one file that opens offline, in light, dark and on paper.

Everything that reaches the page as text passes `escape`; images are data URIs; the content policy forbids the
page to load or run anything, so that a hostile class name that did slip through would still be inert.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import NamedTuple

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5b626d; --page: #fbfbfa; --card: #ffffff;
  --line: #dfe1e5; --blue: #0072b2; --orange: #b84f00; --warn: #fff4e5;
  --mine: #e8f2fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e9eb; --soft: #a0a6b0; --page: #15171a;
  --card: #1d2024; --line: #343941; --blue: #58b4e9; --orange: #f0924c; --warn: #33271a;
  --mine: #1c3242; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, li { max-width: 46rem; } li { margin: .3rem 0; }
.soft, figcaption { color: var(--soft); font-size: .92rem; }
.warn { background: var(--warn); border-left: 4px solid var(--orange); padding: .6rem 1rem; margin: 1rem 0;
  border-radius: 0 6px 6px 0; max-width: 48rem; }
.warn p { margin: .2rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .95rem; }
th, td { text-align: left; padding: .36rem 1.1rem .36rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: break-word; max-width: 40rem; }
th { font-weight: 600; } th.number { text-align: right; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.side { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
.side figure { flex: 1 1 22rem; max-width: 29rem; }
figure { margin: 1.2rem 0; } figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; }
figcaption { max-width: 46rem; margin-top: .4rem; }
nav { columns: 15rem; font-size: .95rem; margin: 1rem 0; } nav a { display: block; color: var(--blue); }
tr.ours th, tr.ours td { background: var(--mine); } tr.control th, tr.control td { color: var(--soft); }
td.best { font-weight: 700; } td.best::before { content: "\\2605  "; color: var(--blue); }
td small { display: block; color: var(--soft); font-weight: 400; }
.cases figure { margin: .9rem 0 1.4rem; overflow-x: auto; } .cases img { min-width: 36rem; }
.compared th[scope="row"] { position: sticky; left: 0; background: var(--page); min-width: 7rem; max-width: 14rem; }
.compared tr.ours th[scope="row"] { background: var(--mine); }
summary { cursor: pointer; color: var(--blue); margin: .5rem 0; }
svg { display: block; max-width: 100%; height: auto; margin: .6rem 0; } svg text { fill: var(--ink);
  font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; } svg .soft { fill: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; font-size: .85rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }
@media print { nav { display: none; }
  :root { color-scheme: light; --ink: #000; --soft: #444; --page: #fff; --card: #fff;
  --line: #bbb; --blue: #0072b2; --orange: #b84f00; --warn: #fff;
  --mine: #f0f0f0; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  figure, tr, .warn { break-inside: avoid; } .cases img { min-width: 0; }
  h2 { break-after: avoid; } pre { white-space: pre-wrap; } }
"""


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


def escape(text: object) -> str:
    """Text for HTML content and quoted attributes; control characters, which HTML has no place for, show."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return html.escape(shown, quote=True)


def page(title: str, body: Sequence[str]) -> str:
    """The whole document. `body` is HTML; `title` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str, anchor: str = "") -> str:
    """A section's title; `anchor` is what `contents` points at."""
    return f'<h2 id="{escape(anchor)}">{escape(text)}</h2>' if anchor else f"<h2>{escape(text)}</h2>"


def subheading(text: str) -> str:
    """A title within a section."""
    return f"<h3>{escape(text)}</h3>"


def contents(sections: Sequence[tuple[str, str]]) -> str:
    """Links to the sections of this page, (anchor, title) each."""
    links = "".join(f'<a href="#{escape(anchor)}">{escape(title)}</a>' for anchor, title in sections)
    return f'<nav aria-label="contents">{links}</nav>' if sections else ""


def paragraph(text: str, kind: str = "") -> str:
    """One paragraph of text; `kind` is a style's name."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def warning(*lines: str) -> str:
    """A boxed remark that must not be overlooked."""
    return f'<div class="warn" role="note">{"".join(paragraph(line) for line in lines)}</div>'


def bullets(lines: Sequence[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table of text; the first column names the row, the others are numbers unless told otherwise."""
    if not rows:
        return ""
    kind = ' class="number"' if numbers else ""
    top = "".join(f'<th scope="col"{kind if i else ""}>{escape(cell)}</th>' for i, cell in enumerate(head))
    lines = ""
    for row in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row[1:])
        lines += f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>'
    header = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{header}<tbody>{lines}</tbody></table></div>'


def compare(head: Sequence[str], rows: Sequence[tuple[str, str, Sequence[Cell]]]) -> str:
    """A table that compares methods: rows are (title, kind, cells); kind is "ours", "rival" or "control"."""
    if not rows:
        return ""
    side = ' class="number"'
    top = "".join(f'<th scope="col"{side if i else ""}>{escape(cell)}</th>' for i, cell in enumerate(head))
    lines = ""
    for title, kind, cells in rows:
        lines += f'<tr class="{escape(kind)}"><th scope="row">{escape(title)}</th>'
        for cell in cells:
            note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
            lines += f'<td class="number {escape(cell.kind)}">{escape(cell.text)}{note}</td>'
        lines += "</tr>"
    inside = f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="scroll"><table class="compared">{inside}</table></div>'


def folded(summary: str, content: str) -> str:
    """HTML that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""


def figure(png: bytes, caption: str, alternative: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def side_by_side(figures: Sequence[str]) -> str:
    """Small pictures in one row where the window is wide enough."""
    return f'<div class="side">{"".join(figures)}</div>' if figures else ""


def cases(figures: Sequence[str]) -> str:
    """Wide pictures one under another."""
    return f'<div class="cases">{"".join(figures)}</div>'


def details(summary: str, text: str) -> str:
    """A long text that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def interval_chart(rows: Sequence[Interval], axis: str, low: float = 0.5, high: float = 1.0) -> str:
    """Values with their intervals as one picture, on an axis that is the same in every report."""
    if not rows:
        return ""
    low = min(low, *(row.low for row in rows))
    left, width, step = 230, 380, 34

    def x(value: float) -> float:
        return left + width * (min(max(value, low), high) - low) / (high - low)

    bottom = step * len(rows) + 8
    parts = []
    for tick in [low + (high - low) * i / 5 for i in range(6)]:
        parts.append(f'<path d="M{x(tick):.1f} 4V{bottom}" stroke="var(--line)"/>')
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:.2g}</text>')
    for index, row in enumerate(rows):
        y = step * index + 22
        parts.append(f'<text x="0" y="{y + 4}">{escape(row.label[:32])}</text>')
        parts.append(f'<path d="M{x(row.low):.1f} {y}H{x(row.high):.1f}" stroke="var(--blue)" stroke-width="3"/>')
        parts.append(f'<circle cx="{x(row.value):.1f}" cy="{y}" r="5.5" fill="var(--blue)"/>')
        parts.append(f'<text x="{left + width + 14}" y="{y + 4}">{row.value:.3f}</text>')
    parts.append(f'<text class="soft" x="{left}" y="{bottom + 36}">{escape(axis)}</text>')
    described = "; ".join(f"{r.label} {r.value:.3f}, {r.low:.3f} to {r.high:.3f}" for r in rows)
    return (
        f'<svg role="img" aria-label="{escape(axis)}: {escape(described)}" viewBox="0 0 670 {bottom + 44}" '
        f'width="670">{"".join(parts)}</svg>'
    )
