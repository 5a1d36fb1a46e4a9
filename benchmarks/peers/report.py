"""The report of a comparison: medians and ratios, targets and measured values, the roofline, table and picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.peers.baselines import PARTS
from benchmarks.peers.rounds import OURS, Case, copy_speed
from medtex_edge.contract import Contract

TITLES = {
    OURS: "medtex-edge",
    "a": "(a) ONNX Runtime + OpenCV",
    "b": "(b) PyTorch + Grad-CAM + OpenCV",
    "c": "(c) OpenVINO + OpenCV",
}
_SAMPLED_ROWS = 64  # of a frame, by our precheck
_LIMITS = {(640, 480): 1.15, (1920, 1080): 1.4}  # of the whole over inference alone
Floats = npt.NDArray[np.float64]


def summary(case: Case) -> dict[str, Any]:
    """Medians in milliseconds; ratios of the wholes and of the single parts to ours."""
    baselines = [name for name in case.whole if name != OURS]
    return {
        "size": list(case.size),
        "format": case.layout,
        "median_ms": {
            who: {
                **{part: _median(parts[part]) for part in (*PARTS, "whole")},
                "not inference": _median(case.pixels(who).tolist()),
            }
            for who, parts in case.whole.items()
        },
        "times_faster": {who: _spread(case.ratios(who, OURS)) for who in baselines},
        "share_of_pixels": {who: _spread(case.pixels(OURS) / case.pixels(who)) for who in baselines},
        "parts": {
            part: {
                "ours_ms": _median(taken[OURS]),
                **{f"{who}_ms": _median(values) for who, values in taken.items() if who != OURS},
                "times_faster": {
                    who: _spread(np.array(values) / np.array(taken[OURS]))
                    for who, values in taken.items()
                    if who != OURS
                },
            }
            for part, taken in case.single.items()
        },
    }


def targets(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Each target with its measured value."""
    rows: list[dict[str, Any]] = []
    for case in (c for c in cases if c.layout == "bgr"):
        own = np.array(case.whole[OURS]["whole"]) / np.array(case.whole[OURS]["infer"])
        name = f"{case.size[0]} x {case.size[1]} BGR"
        if case.size == (1920, 1080):
            rows += _targets_of_parts(name, case)
        if "a" in case.whole:
            shares = case.pixels(OURS) / case.pixels("a")
            rows.append(_row(f"{name}: everything that is not inference, share of (a)'s", "<=", 0.2, shares))
        if case.size in _LIMITS:
            rows.append(_row(f"{name}: the whole over inference alone", "<=", _LIMITS[case.size], own))
            room = (_LIMITS[case.size] - 1) * _median(case.whole[OURS]["infer"])
            taken = ", ".join(f"{who} {np.median(case.pixels(who)):.2f}" for who in (OURS, "a") if who in case.whole)
            rows[-1]["note"] = f"that leaves {room:.2f} ms for everything else; it takes: {taken} ms"
        if "b" in case.whole:
            rows.append(_row(f"{name}: the whole, times faster than (b)", ">=", 5, case.ratios("b", OURS)))
    return rows


def _targets_of_parts(name: str, case: Case) -> list[dict[str, Any]]:
    crop, real, dense, quality = (
        {who: np.array(values) / np.array(taken[OURS]) for who, values in taken.items()}
        for taken in case.single.values()
    )
    first = "  the same, if (a) colours the map before it enlarges it"
    return [
        _row(f"{name}: field of view + crop + resize, times faster than (a)'s", ">=", 6, crop["a"]),
        _row(f"{name}: overlay with a real map, times faster than (a)'s", ">=", 6, real["a"]),
        _row(first, ">=", 6, real["a, colours first"]),
        _row(f"{name}: overlay with a dense map, times faster than (a)'s", ">=", 3.5, dense["a"]),
        _row(first, ">=", 3.5, dense["a, colours first"]),
        _row(f"{name}: frame quality, times faster than a Laplacian's variance at quarter size", ">=", 5, quality["a"]),
        _row("  the same, if the quarter is not antialiased", ">=", 5, quality["a, aliased"]),
    ]


def roofline(cases: Sequence[Case], contract: Contract, threads: int) -> dict[str, Any]:
    """What memory allows at least, per part of the largest BGR case: bytes that must move over the speed of a copy.

    `best_ratio` is how many times faster than (a) a part could be that does nothing but move its bytes.
    """
    case = max((c for c in cases if c.single), key=lambda c: c.size)
    width, height = case.size
    frame = 3 * width * height
    alone, together = (copy_speed(frame, count) for count in (1, threads))
    speed = max(alone, together)
    box = case.side**2
    drawn = float(np.median(case.drawn))
    moved = {
        "field of view + crop + resize": 3 * (box + contract.width * contract.height),
        "overlay, real map": 2 * 3 * box * drawn,
        "overlay, dense map": 2 * 3 * box,
        "frame quality": 3 * (min(height, _SAMPLED_ROWS) * width + contract.width * contract.height),
    }
    parts = {}
    for part, size in moved.items():
        bound = size / speed / 1e6
        ours, baseline = (_median(case.single[part][who]) for who in (OURS, "a"))
        parts[part] = {
            "bytes": round(size), "bound_ms": round(bound, 4), "ours_ms": ours,
            "ours_over_bound": round(ours / bound, 2), "best_ratio": round(baseline / bound, 1),
        }  # fmt: skip
    return {
        "case": case.name,
        "share_drawn": round(drawn, 3),
        "copy_gb_per_s": {"frame, 1 thread": round(alone, 1), f"frame, {threads} threads": round(together, 1),
                          "256 MB, 1 thread": round(copy_speed(256 << 20, 1), 1)},
        "parts": parts,
    }  # fmt: skip


def show(report: dict[str, Any]) -> None:
    """Print the tables on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 132  # a log is wide enough for the tables
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    console.print(f"{report['bundle']}, {machine['cpu']}, {report['threads']} threads for everything, "
                  f"{report['rounds']} rounds, {versions}", markup=False)  # fmt: skip
    for case in report["cases"]:
        width, height = case["size"]
        table = Table(title=f"{width} x {height} {case['format']}: medians in milliseconds", title_justify="left")
        table.add_column("", no_wrap=True)
        for name in (*PARTS, "whole", "over ours", "quartiles"):
            table.add_column(name, justify="right")
        for who, parts in case["median_ms"].items():
            ratio = case["times_faster"].get(who)
            last = (f"{ratio['median']:.2f}", f"{ratio['q1']:.2f}-{ratio['q3']:.2f}") if ratio else ("1", "")
            table.add_row(TITLES[who], *(f"{parts[name]:.2f}" for name in (*PARTS, "whole")), *last)
        console.print(table)
    table = Table("what", "target", "measured", "quartiles", title="targets and measured values", title_justify="left")
    for row in report["targets"]:
        mark = "[green]met[/]" if row["met"] else "[red]not met[/]"
        table.add_row(row["what"], f"{row['sign']} {row['target']:g}", f"{row['median']:.2f} {mark}",
                      f"{row['q1']:.2f}-{row['q3']:.2f}")  # fmt: skip
        if "note" in row:
            table.add_row(f"  {row['note']}", "", "", "", style="dim")
    console.print(table)
    line = report["roofline"]
    title = f"roofline, {line['case']}: a copy moves " + ", ".join(
        f"{value} GB/s ({name})" for name, value in line["copy_gb_per_s"].items()
    )
    table = Table("part", "bytes moved", "at least, ms", "ours, ms", "ours / bound", "bound against (a)",
                  title=title, title_justify="left")  # fmt: skip
    for part, found in line["parts"].items():
        table.add_row(part, f"{found['bytes'] / 1e6:.2f} MB", f"{found['bound_ms']:.3f}", f"{found['ours_ms']:.3f}",
                      f"{found['ours_over_bound']:.1f}", f"{found['best_ratio']:.1f} times")  # fmt: skip
    console.print(table)
    console.print(f"the real maps draw {line['share_drawn']:.0%} of the box")
    for warning in report["warnings"]:
        console.print(f"note: {warning}", markup=False)


def picture(report: dict[str, Any], path: Path) -> None:
    """Stacked bars: where each contender's time goes, per size. Raises `StorageError`."""
    # Imported here since figures alone need no matplotlib.
    from medtex_edge.train.report.canvas import BLUE, GREEN, GREY, ORANGE, PINK, SKY, name_axes, new_figure, save

    colours = dict(zip(PARTS, (BLUE, GREEN, "#b9bec4", SKY, ORANGE, PINK), strict=True))
    cases = report["cases"]
    figure = new_figure(9.5, 0.4 + 1.75 * len(cases))
    axes = figure.subplots(len(cases), 1)
    for sheet, case in zip(np.atleast_1d(axes), cases, strict=True):
        names = sorted(case["median_ms"], key=lambda who: case["median_ms"][who]["whole"])
        longest = max(parts["whole"] for parts in case["median_ms"].values())
        for row, who in enumerate(names):
            parts, at = case["median_ms"][who], 0.0
            for part in PARTS:
                label = part if row == 0 else None
                sheet.barh(row, parts[part], left=at, color=colours[part], height=0.68, label=label)
                at += parts[part]
            text = f" {parts['whole']:.1f} ms, of which {parts['not inference']:.2f} not inference"
            sheet.text(at, row, text, va="center", fontsize=8, color="#333333")
        sheet.set_yticks(range(len(names)), [TITLES[who] for who in names])
        sheet.invert_yaxis()
        sheet.set_xlim(0, 1.45 * longest)
        width, height = case["size"]
        name_axes(sheet, f"{width} x {height} {case['format']}")
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, fontsize=8, ncols=len(PARTS))
    machine = report["machine"]
    np.atleast_1d(axes)[-1].set_xlabel(
        f"milliseconds of a frame, medians of {report['rounds']} rounds; same frames, same student, "
        f"{report['threads']} threads for everything; {machine['cpu']}",
        color=GREY,
    )
    save(figure, path)


def _row(what: str, sign: str, limit: float, values: Floats) -> dict[str, Any]:
    spread = _spread(values)
    met = spread["median"] >= limit if sign == ">=" else spread["median"] <= limit
    return {"what": what, "sign": sign, "target": limit, **spread, "met": bool(met)}


def _spread(values: Floats) -> dict[str, float]:
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    return {"median": round(float(median), 3), "q1": round(float(q1), 3), "q3": round(float(q3), 3)}


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 4)
