"""The comparison of engines as people read it: a table in the terminal, and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from medtex_edge.runtime.bench.report import COLOURS, header, spans, write_png
from medtex_edge.runtime.bench.timings import GPU
from medtex_edge.runtime.console import print_line as say
from medtex_edge.runtime.display import text

_INK, _FAINT, _BAD = (40, 40, 40), (130, 130, 130), (40, 40, 200)
_ROW, _TOP = 64, 190


def show(report: dict[str, Any]) -> None:
    """Print it on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    for line in header(report):
        say(console, line)
    table = Table(title=f"milliseconds of {report['frames']} frames each, in {report['rounds']} rounds",
                  title_justify="left", box=SIMPLE_HEAD, padding=0)  # fmt: skip
    table.add_column("engine", overflow="fold")  # the one that gives way on a narrow terminal
    table.add_column("graph", no_wrap=True)
    for name in ("infer", "p95", "GPU", "in all", "frames/s", "x first", "MB", "off by"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report["rows"]:
        table.add_row(_engine(row), row["precision"] or "-", *_cells(row))
    console.print(table)
    for row in report["rows"]:
        if row["error"]:
            label = " ".join(filter(None, (row["backend"], row["precision"])))
            say(console, f"not measured: {label}: {row['error']}" + (f" ({row['hint']})" if row["hint"] else ""))
    say(console, "in all: from the camera's pixels to the drawn overlay; x first: that, against the first row's; "
        "off by: the largest difference to the golden vectors, of a probability or of a map on average")  # fmt: skip
    for line in report["warnings"]:
        say(console, f"note: {line}")


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture as PNG, whole or not at all. Raises `StorageError`."""
    write_png(picture(report), path)


def picture(report: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3) uint8 BGR: a bar per engine and precision, made of its stages; one that was not measured says why."""
    rows, left, right = report["rows"], 340, 1290
    image = np.full((_TOP + _ROW * len(rows) + 90, right + 70, 3), 255, np.uint8)
    ways = [row["in_turn"]["latency_ms"] for row in rows if row["in_turn"]]
    scale = (right - 250 - left) / max(*(way["whole"]["p95"] for way in ways), 1e-6)
    width, height = report["size"]
    machine = report["machine"]
    text.put(image, "The same frames, engine by engine", 30, 52, 34, _INK, bold=True)
    lines = (
        f"{width} x {height} {report['format']}, {machine['cpu']}, {machine['cores']} cores"
        + ("" if machine["native"] else ", without the native module"),
        f"{report['frames']} frames each, one at a time, in {report['rounds']} rounds of turns",
    )
    for index, line in enumerate(lines):
        text.put(image, text.fit(line, 22, right), 30, 94 + 34 * index, 22, _FAINT)
    for index, row in enumerate(rows):
        y = _TOP + _ROW * index
        text.put(image, row["precision"] or "-", 30, y + 30, 22, _INK, bold=True)
        text.put(image, text.fit(_engine(row), 20, left - 120), 100, y + 30, 20, _INK)
        if row["in_turn"]:
            _bar(image, row, left, y, scale)
        else:
            text.put(image, text.fit(f"not measured: {row['error']}", 18, right + 40 - left), left, y + 30, 18, _BAD)
    _legend(image, {stage for way in ways for stage in way} - {"whole"}, image.shape[0] - 30)
    return image


def _bar(image: np.ndarray[Any, np.dtype[np.uint8]], row: dict[str, Any], left: int, y: int, scale: float) -> None:
    stages = row["in_turn"]["latency_ms"]
    last = left
    for stage, begin, end in spans(stages):
        if stage != "whole":
            x0, x1 = left + round(begin * scale), left + round(end * scale)
            top = y + 28 if stage == GPU else y + 4  # inside of "infer", of which it is a part
            cv2.rectangle(image, (x0, top), (max(x0, x1 - 1), y + 38), COLOURS[stage], cv2.FILLED)
            last = max(last, x1)
    late = max(last, left + round(stages["whole"]["p95"] * scale))
    cv2.line(image, (last, y + 21), (late, y + 21), COLOURS["whole"], 2)
    cv2.line(image, (late, y + 13), (late, y + 29), COLOURS["whole"], 2)
    said = f"{stages['whole']['median']:.2f} ms, {row['in_turn']['frames_per_second']:.0f} frames/s"
    text.put(image, said, late + 12, y + 29, 20, _INK)


def _legend(image: np.ndarray[Any, np.dtype[np.uint8]], stages: set[str], y: int) -> None:
    x = 30
    for stage in (stage for stage in COLOURS if stage in stages):
        cv2.rectangle(image, (x, y - 14), (x + 16, y + 2), COLOURS[stage], cv2.FILLED)
        text.put(image, stage, x + 24, y, 20, _FAINT)
        x += 48 + text.width(stage, 20)
    text.put(image, "bar: medians; line: to the 95th percentile", x, y, 20, _FAINT)


def _cells(row: dict[str, Any]) -> list[str]:
    size = f"{row['model_mb']:.1f}" if row["model_mb"] else "-"
    if not row["in_turn"]:
        return [*["-"] * 6, size, "-"]
    stages, golden = row["in_turn"]["latency_ms"], row["golden"]
    whole, infer = stages["whole"], stages["infer"]
    gpu = f"{stages[GPU]['median']:.3f}" if GPU in stages else "-"
    return [
        f"{infer['median']:.2f}", f"{infer['p95']:.2f}", gpu, f"{whole['median']:.2f}",
        f"{row['in_turn']['frames_per_second']:.1f}", f"{row['times_first']['whole']:.2f}", size,
        f"{max(golden['probability'], golden['saliency']):.1g}",
    ]  # fmt: skip


def _engine(row: dict[str, Any]) -> str:
    name: str = row["backend"]
    return name.removesuffix("ExecutionProvider")
