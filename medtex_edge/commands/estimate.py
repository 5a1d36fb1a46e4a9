"""`medtex-edge estimate`: what a bundle should cost on a board's GPU, by arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

BOARDS = ("orin-nano", "orin-nano-25w", "orin-nano-15w", "orin-nx", "agx-orin")  # of export/estimate/latency.py
_SHORT = {"convolution": "conv", "arithmetic": "adds"}  # so that the name of a layer has room
_MEASURE = "an estimate from arithmetic; on the board, measure: medtex-edge bench --backend tensorrt"


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--board", default=BOARDS[0], show_default=True, type=click.Choice(BOARDS), help="Whose GPU.")
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8"]),
    help="Which of the bundle's graphs.  [default: fp16 where there is one, else fp32]",
)  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="All of it as JSON; - for standard output.")
def estimate(bundle: Path | None, board: str, precision: str | None, json_file: str | None) -> None:
    """Estimate the time of BUNDLE (default: the newest *.medtex here) on a Jetson's GPU, kernel by kernel.

    \b
    medtex-edge estimate eye.medtex --board orin-nano

    Multiply-adds, bytes and launches are counted; the milliseconds are arithmetic with four numbers fitted to others'
    measurements on an Orin Nano. Nothing is run, and no estimate replaces `medtex-edge bench` on the board.

    Exit codes: 0 shown, 2 the onnx package is missing, 3 the bundle is damaged, 9 the JSON could not be written.
    """
    from medtex_edge.bundle import Bundle
    from medtex_edge.files import write_json
    from medtex_edge.runtime.engines import key as engine_key
    from medtex_edge.settings import newest_bundle

    opened = Bundle.open(bundle or newest_bundle())
    precision = engine_key.precision_of(opened, precision)
    content = opened.model(precision)
    from medtex_edge.export.estimate.latency import estimate as estimated

    found = {"bundle": str(opened.path), "precision": precision, **estimated(content, board)}
    if json_file == "-":
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    _show(found)
    if json_file:
        write_json(json_file, found)


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """One line for each precision that a bundle's report has an estimate of, and one that states what they are."""
    precisions = report.get("precisions")
    texts = [
        line
        for name, entry in (precisions.items() if isinstance(precisions, dict) else ())
        if isinstance(entry, dict) and (line := _line(name, entry.get("estimate")))
    ]
    yield from texts
    if texts:
        yield _MEASURE


def _line(precision: str, value: Any) -> str:
    """Empty for a report of another form."""
    try:
        ms, parts = value["ms"], value["parts"]
        shares = ", ".join(f"{part} {parts[part]['ms']:.2f}" for part in ("student", "explainer", "rest"))
        return (
            f"expected on {value['board']}, {precision}: {ms['middle']:.2f} ms ({ms['low']:.2f}-{ms['high']:.2f}) of "
            f"GPU time, {value['launches']:d} launches: {shares}"
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return ""


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_kernels(found["kernels"], console.width))
    console.print(_sums(found))
    spent = ", ".join(f"{name} {value:.2f} ms" for name, value in found["spent_ms"].items())
    console.print(f"spent on: {spent} (M adds: millions of multiply-adds)", highlight=False)
    console.print(_line(found["precision"], found), highlight=False, soft_wrap=True)
    console.print(_MEASURE, highlight=False, soft_wrap=True)


def _kernels(rows: list[dict[str, Any]], width: int) -> Table:
    table = _table("kernel", "part", "kind", "", "M adds", "KB", "µs", "limit")
    name, *others = table.columns
    name.overflow = "ellipsis"
    for row in rows:
        moved = row["weight_bytes"] + row["read_bytes"] + row["written_bytes"]
        numbers = (f"{row['multiply_adds'] / 1e6:.2f}", f"{moved / 1e3:.0f}", f"{row['us']:.1f}")
        kind, limit = (_SHORT.get(row[key], row[key]) for key in ("kind", "limit"))
        short = row["name"].removeprefix(f"{row['part']}.")
        table.add_row(short, row["part"], kind, row["precision"], *numbers, limit)
    for column in others:  # a number that is cut is another number: names are cut instead
        column.min_width = max(len(str(cell)) for cell in (*column.cells, column.header))
    name.max_width = max(12, width - sum((column.min_width or 0) + 2 for column in others) - 3)
    return table


def _sums(found: dict[str, Any]) -> Table:
    table = _table("", "ms", "launches", "M adds", "MB")
    for name, sums in {**found["parts"], **found["kinds"], "all": {**found, "ms": found["ms"]["middle"]}}.items():
        counts = (f"{sums['multiply_adds'] / 1e6:.1f}", f"{sums['bytes'] / 1e6:.1f}")
        table.add_row(name, f"{sums['ms']:.3f}", str(sums["launches"]), *counts, end_section=name in ("rest", "all"))
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in columns:
        right = column in ("M adds", "KB", "MB", "µs", "ms", "launches")
        table.add_column(column, justify="right" if right else "left", no_wrap=True, overflow="fold")
    return table
