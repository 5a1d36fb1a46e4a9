"""A benchmark's report for people: a table with bars in the terminal, the same bars as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from medtex_edge.files import atomic_write
from medtex_edge.runtime.bench.timings import GPU, STAGES
from medtex_edge.runtime.console import print_line
from medtex_edge.runtime.display import text

FIGURES = ("median", "p95", "p99", "max")
# Blue, green, red: Okabe and Ito's colours (jfly.uni-koeln.de/color); the inference in grey, since it is the engine's.
COLOURS = {
    "quality": (178, 114, 0), "prepare": (115, 158, 0), "infer": (150, 145, 140), "convert": (0, 184, 184),
    "draw": (0, 94, 213), "other": (167, 121, 204), "whole": (60, 60, 60), GPU: (233, 180, 86),
}  # fmt: skip


def header(report: dict[str, Any]) -> list[str]:
    """What was measured, on what."""
    machine = report["machine"]
    width, height = report["size"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    threads = f"{report['threads']} threads" if report["threads"] else "all cores"
    return [
        f"{report['bundle']} ({report['model']}), {width} x {height} {report['format']} from {report['source']}",
        f"{'every engine here' if machine['backend'] == 'all' else machine['backend']}, {threads}; pixels by "
        + ("the native module" if machine["native"] else "the numpy reference: NO NATIVE MODULE, many times slower"),
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']} {machine['architecture']}, "
        f"Python {machine['python']}, {versions}",
    ]


def show(report: dict[str, Any]) -> None:
    """Print it on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    for line in header(report):
        print_line(console, line)
    stages = report["in_turn"]["latency_ms"]
    whole = max(stages["whole"]["median"], 1e-6)
    bar = max(12, min(72, console.width - 56))
    table = Table(title=_count(report["in_turn"]), title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where the time goes", no_wrap=True)
    for stage, begin, end in spans(stages):
        figures = (f"{stages[stage][name]:.3f}" for name in FIGURES)
        table.add_row(stage, *figures, Bar(whole, begin, end, width=bar, color=_rich_colour(stage)))
    console.print(table)
    for title, result in (("one at a time", report["in_turn"]), ("in threads", report["in_threads"])):
        print_line(
            console, f"{title:<14}{result['frames_per_second']:.1f} frames/s, {result['cores_used']:.2f} cores used"
        )
    memory = report["memory"]
    if memory:
        growth, over = memory["growth_mb_per_1000_frames"], memory["frames"]
        print_line(
            console,
            f"{'memory':<14}{memory['resident_mb']:.0f} MB resident, the frames of this benchmark included; "
            f"{growth:+.2f} MB per 1,000 frames (over {over})",
        )
    for line in report["warnings"]:
        print_line(console, f"note: {line}")


def spans(stages: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(stage, begin, end), milliseconds of the medians, one behind the other; the whole from 0, the GPU in "infer"."""
    found, at = [], 0.0
    for stage in STAGES:
        if stage in stages:
            end = at + stages[stage]["median"]
            found.append((stage, at, end))
            if stage == "infer" and GPU in stages:
                found.append((GPU, at, at + stages[GPU]["median"]))
            at = end
    return [*found, ("whole", 0.0, stages["whole"]["median"])]


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the waterfall as PNG, whole or not at all. Raises `StorageError`."""
    write_png(waterfall(report), path)


def write_png(picture: np.ndarray[Any, np.dtype[np.uint8]], path: Path) -> None:
    """Write (H, W, 3) uint8 BGR, whole or not at all. Raises `StorageError`."""
    done, content = cv2.imencode(".png", picture)
    assert done
    with atomic_write(path) as file:
        file.write(content.tobytes())


def waterfall(report: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3) uint8 BGR: a bar per stage that begins where the one before it ends; a thin line reaches to its p99."""
    stages = report["in_turn"]["latency_ms"]
    rows = spans(stages)
    left, right, top, row = 150, 1290, 190, 54
    picture = np.full((top + row * len(rows) + 90, right + 70, 3), 255, np.uint8)
    reach = max(begin + stages[stage]["p99"] for stage, begin, _ in rows)
    scale = (right - 170 - left) / max(reach, 1e-6)
    ink, faint = (40, 40, 40), (130, 130, 130)
    machine = report["machine"]
    results = report["in_turn"], report["in_threads"]
    text.put(picture, "Where a frame's time goes", 30, 52, 34, ink, bold=True)
    width, height = report["size"]
    lines = (
        f"{width} x {height} {report['format']}, {machine['backend']}, {machine['cpu']}, {machine['cores']} cores"
        + ("" if machine["native"] else ", without the native module"),
        f"{results[0]['scored']} frames scored, one at a time: {results[0]['frames_per_second']:.0f} frames/s; "
        f"in threads: {results[1]['frames_per_second']:.0f} frames/s",
    )
    for index, line in enumerate(lines):
        text.put(picture, text.fit(line, 22, right), 30, 94 + 34 * index, 22, faint)
    for index, (stage, begin, end) in enumerate(rows):
        y, colour = top + row * index, COLOURS[stage]
        x0, x1 = left + round(begin * scale), left + round(end * scale)
        late = left + round((begin + stages[stage]["p99"]) * scale)
        text.put(picture, stage, 30, y + 27, 22, ink, bold=stage == "whole")
        cv2.rectangle(picture, (x0, y + 4), (max(x0 + 2, x1), y + 34), colour, cv2.FILLED)
        cv2.line(picture, (x1, y + 19), (late, y + 19), colour, 2)
        cv2.line(picture, (late, y + 11), (late, y + 27), colour, 2)
        text.put(picture, f"{stages[stage]['median']:.2f} ms", max(x1, late) + 12, y + 27, 22, ink)
    text.put(picture, "bar: median; line: to the 99th percentile", 30, picture.shape[0] - 30, 20, faint)
    return picture


def _count(result: dict[str, Any]) -> str:
    refused = ", ".join(f"{count} {reason}" for reason, count in result["refused"].items())
    return f"milliseconds of {result['scored']} scored frames" + (f" (not counted: {refused})" if refused else "")


def _rich_colour(stage: str) -> str:
    blue, green, red = COLOURS[stage]
    # The whole stands on dark and light terminals alike.
    return "default" if stage == "whole" else f"rgb({red},{green},{blue})"
