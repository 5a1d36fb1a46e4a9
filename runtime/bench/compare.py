"""The comparison of engines: the same frames through every engine and precision, as numbers, table and picture.

They run in turns, so that other load falls on all. An engine that cannot be opened, or whose answers are not those of
the bundle's golden vectors, is reported and not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from medtex_edge.bundle import Bundle
from medtex_edge.errors import MedtexError
from medtex_edge.files import without_folders
from medtex_edge.runtime.backend import Backend, onnxruntime, open_backend
from medtex_edge.runtime.backend.golden_check import Drift, check_golden
from medtex_edge.runtime.bench import machine as bench_machine
from medtex_edge.runtime.bench.bench import BenchOptions, Ring, report_head, ring_of
from medtex_edge.runtime.bench.report import COLOURS, header, spans, write_png
from medtex_edge.runtime.bench.timings import GPU, WARM_UP, SequentialRun, check_scored
from medtex_edge.runtime.console import print_line
from medtex_edge.runtime.display import text
from medtex_edge.runtime.engines import key as engine_key

SCHEMA = "medtex-edge/bench-all/1"
ALL = "all"
TURN = 10  # frames of one engine until the next one's turn
SETTLE = 2  # frames at the start of a turn that are not counted: the caches are full of the one before
_INK, _FAINT, _BAD = (40, 40, 40), (130, 130, 130), (40, 40, 200)
_ROW, _TOP = 64, 190


@dataclass
class Contender:
    """One engine with one of the bundle's graphs.

    `error`: why it is out of the comparison, or None. `precision` None: the engine runs none of them.
    """

    backend: str  # as `open_backend` takes it
    precision: str | None
    megabytes: float = 0.0  # of the graph
    name: str = ""  # as the opened backend calls itself
    drift: Drift | None = None
    turn: SequentialRun | None = None
    error: MedtexError | None = None
    opened: Backend | None = None

    @property
    def label(self) -> str:
        """Its name in tables and messages."""
        return f"{self.backend} {self.precision}" if self.precision else self.backend

    def enter(self, bundle: Bundle, ring: Ring, threads: int | None) -> None:
        """Open the engine and check the golden vectors; a failure is kept in `error`."""
        if self.error is not None or self.precision is None:
            return
        try:
            self.opened = open_backend(self.backend, bundle, precision=self.precision, threads=threads)
            self.name = self.opened.name
            self.drift = check_golden(self.opened, bundle, self.precision)
            self.turn = SequentialRun(ring.again(), self.opened, bundle.contract)
        except MedtexError as error:
            self.close(error)

    def play(self, frames: int, settle: int) -> None:
        """Its turn: `frames` that count, after some that do not."""
        if self.turn is None:
            return
        try:
            for index in range(settle + frames):
                self.turn.frame(counted=index >= settle)
        except MedtexError as error:
            self.close(error)

    def close(self, error: MedtexError | None = None) -> None:
        """Give the engine back. May be called twice."""
        if error is not None:
            self.error, self.turn = error, None
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()

    def to_json(self, first: SequentialRun | None) -> dict[str, Any]:
        """A value for `json.dumps`; how long it takes as a multiple of `first`."""
        result = self.turn.timings.to_json() if self.turn else None
        base = first.timings.to_json()["latency_ms"] if first else {}
        return {
            "backend": self.backend,
            "precision": self.precision,
            "name": self.name or None,
            "model_mb": round(self.megabytes, 3) or None,
            "error": self.error and without_folders(self.error.message),
            "hint": self.error and without_folders(self.error.hint),
            "golden": self.drift and {
                "count": self.drift.count, "probability": self.drift.probability, "saliency": self.drift.saliency,
            },
            "in_turn": result,
            "times_first": result and {
                stage: round(result["latency_ms"][stage]["median"] / max(base[stage]["median"], 1e-3), 4)
                for stage in ("infer", "whole")
            },
        }  # fmt: skip


def compare(options: BenchOptions, on_message: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Run the benchmark and return its report, a value for `json.dumps`.

    `on_message` is a callback for the step under way.

    `options.backend` "all": every engine; `options.precision` "all": every precision. Raises `MedtexError`, also where
    none of them can be measured: that of the first one.
    """
    o = options
    bundle = Bundle.open(o.bundle)
    contenders = list_contenders(bundle, o.backend, o.precision)
    ring = ring_of(o, bundle)
    machine = bench_machine.describe(o.backend, o.precision)
    throttled = bench_machine.throttled()
    with ExitStack() as stack:
        for each in contenders:
            on_message(f"opening {each.label}")
            stack.callback(each.close)
            each.enter(bundle, ring, o.threads)
        rounds = _play(contenders, o.frames, on_message)
    measured = [each for each in contenders if each.turn]
    if not measured:
        why = "; ".join(f"{each.label}: {each.error.message}" for each in contenders if each.error)
        error = contenders[0].error
        assert error is not None
        raise type(error)(f"nothing can be measured: {why}", hint=error.hint)
    for each in measured:
        assert each.turn is not None
        check_scored(each.turn.timings, o.frames)
    return {
        "schema": SCHEMA,
        **report_head(o, bundle, ring),
        "turn": TURN,
        "rounds": rounds,
        "machine": machine,
        "rows": [each.to_json(measured[0].turn) for each in contenders],
        "warnings": bench_machine.warnings(machine, throttled),
    }


def list_contenders(bundle: Bundle, backend: str, precision: str) -> list[Contender]:
    """List the engines and precisions to compare, ONNX Runtime's CPU provider first.

    Raises `BundleError` for a precision that the bundle lacks.
    """
    if precision != ALL:
        bundle.model(precision)  # raises, and lists the precisions of the bundle
    precisions = bundle.precisions if precision == ALL else (precision,)
    nothing: list[Contender] = []
    names = [backend]
    if backend == ALL:
        offered = onnxruntime.providers()
        names = ["onnxruntime", *(f"onnxruntime:{name}" for name in offered if name != onnxruntime.CPU)]
        try:
            engine_key.key_of_graph("", "")
            names.append("tensorrt")
        except MedtexError as error:
            nothing = [Contender("tensorrt", None, error=error)]
    sizes = {each: len(bundle.model(each)) / 1e6 for each in precisions}
    return [Contender(name, each, sizes[each]) for name in names for each in precisions] + nothing


def _play(contenders: list[Contender], frames: int, on_message: Callable[[str], None]) -> int:
    """Every contender sees the same frames. Each second round goes backwards; returns how many there were."""
    for each in contenders:
        each.play(0, WARM_UP)
    rounds = -(-frames // TURN)
    for index in range(rounds):
        on_message(f"round {index + 1} of {rounds}")
        for each in contenders[:: -1 if index % 2 else 1]:
            each.play(min(TURN, frames - index * TURN), SETTLE)
    return rounds


def show(report: dict[str, Any]) -> None:
    """Print it on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    for line in header(report):
        print_line(console, line)
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
            print_line(console, f"not measured: {label}: {row['error']}" + (f" ({row['hint']})" if row["hint"] else ""))
    print_line(
        console,
        "in all: from the camera's pixels to the drawn overlay; x first: that, against the first row's; "
        "off by: the largest difference to the golden vectors, of a probability or of a map on average",
    )
    for line in report["warnings"]:
        print_line(console, f"note: {line}")


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture as PNG, whole or not at all. Raises `StorageError`."""
    write_png(picture(report), path)


def picture(report: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3) uint8 BGR: a bar per engine and precision, made of its stages; else the reason why it is missing."""
    rows, left, right = report["rows"], 340, 1290
    image = np.full((_TOP + _ROW * len(rows) + 90, right + 70, 3), 255, np.uint8)
    results = [row["in_turn"]["latency_ms"] for row in rows if row["in_turn"]]
    scale = (right - 250 - left) / max(*(result["whole"]["p95"] for result in results), 1e-6)
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
    _legend(image, {stage for result in results for stage in result} - {"whole"}, image.shape[0] - 30)
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
    label = f"{stages['whole']['median']:.2f} ms, {row['in_turn']['frames_per_second']:.0f} frames/s"
    text.put(image, label, late + 12, y + 29, 20, _INK)


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
