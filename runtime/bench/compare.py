"""The same frames through every engine and every precision that are here, in turns, so that other load falls on all.

An engine that cannot be opened, or whose answers are not those of the bundle's golden vectors, is said and not timed:
the speed of wrong answers is nobody's business.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from medtex_edge.bundle import Bundle
from medtex_edge.errors import MedtexError
from medtex_edge.files import without_folders
from medtex_edge.runtime.backend import Backend, onnxruntime, open_backend
from medtex_edge.runtime.backend.golden_check import Drift, check_golden
from medtex_edge.runtime.bench import machine as bench_machine
from medtex_edge.runtime.bench.bench import Options, described, ring_of
from medtex_edge.runtime.bench.frames import Ring
from medtex_edge.runtime.bench.timings import WARM_UP, SequentialRun, check_scored
from medtex_edge.runtime.engines import key

SCHEMA = "medtex-edge/bench-all/1"
ALL = "all"
TURN = 10  # frames of one engine until the next one's turn
SETTLE = 2  # frames at the start of a turn that nobody counts: the caches are full of the one before


@dataclass
class Contender:
    """One engine with one of the bundle's graphs. `error` set: it is out, and why; `precision` None: any would be."""

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
        """For people."""
        return f"{self.backend} {self.precision}" if self.precision else self.backend

    def enter(self, bundle: Bundle, ring: Ring, threads: int | None) -> None:
        """Open and prove it; what stands against it is kept in `error`."""
        if self.error is not None or self.precision is None:
            return
        try:
            self.opened = open_backend(self.backend, bundle, precision=self.precision, threads=threads)
            self.name = self.opened.name
            self.drift = check_golden(self.opened, bundle, self.precision)
            self.turn = SequentialRun(ring.again(), self.opened, bundle.contract)
        except MedtexError as error:
            self.leave(error)

    def play(self, frames: int, settle: int) -> None:
        """Its turn: `frames` that count, after some that do not."""
        if self.turn is None:
            return
        try:
            for index in range(settle + frames):
                self.turn.frame(counted=index >= settle)
        except MedtexError as error:
            self.leave(error)

    def leave(self, error: MedtexError | None = None) -> None:
        """Give the engine back. May be called twice."""
        if error is not None:
            self.error, self.turn = error, None
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()

    def to_json(self, first: SequentialRun | None) -> dict[str, Any]:
        """A value for `json.dumps`; how long it takes as a multiple of `first`."""
        way = self.turn.way.to_json() if self.turn else None
        base = first.way.to_json()["latency_ms"] if first else {}
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
            "in_turn": way,
            "times_first": way and {
                stage: round(way["latency_ms"][stage]["median"] / max(base[stage]["median"], 1e-3), 4)
                for stage in ("infer", "whole")
            },
        }  # fmt: skip


def compare(options: Options, told: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Run the benchmark and give its report, a value for `json.dumps`; `told` hears what is under way.

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
            told(f"opening {each.label}")
            stack.callback(each.leave)
            each.enter(bundle, ring, o.threads)
        rounds = _play(contenders, o.frames, told)
    measured = [each for each in contenders if each.turn]
    if not measured:
        why = "; ".join(f"{each.label}: {each.error.message}" for each in contenders if each.error)
        error = contenders[0].error
        assert error is not None
        raise type(error)(f"nothing can be measured: {why}", hint=error.hint)
    for each in measured:
        assert each.turn is not None
        check_scored(each.turn.way, o.frames)
    return {
        "schema": SCHEMA,
        **described(o, bundle, ring),
        "turn": TURN,
        "rounds": rounds,
        "machine": machine,
        "rows": [each.to_json(measured[0].turn) for each in contenders],
        "warnings": bench_machine.warnings(machine, throttled),
    }


def list_contenders(bundle: Bundle, backend: str, precision: str) -> list[Contender]:
    """What there is to compare, ONNX Runtime's CPU provider first. Raises `BundleError` for a precision that is not."""
    if precision != ALL:
        bundle.model(precision)  # says which there are
    precisions = bundle.precisions if precision == ALL else (precision,)
    nothing: list[Contender] = []
    names = [backend]
    if backend == ALL:
        offered = onnxruntime.providers()
        names = ["onnxruntime", *(f"onnxruntime:{name}" for name in offered if name != onnxruntime.CPU)]
        try:
            key.key("", "")
            names.append("tensorrt")
        except MedtexError as error:
            nothing = [Contender("tensorrt", None, error=error)]
    sizes = {each: len(bundle.model(each)) / 1e6 for each in precisions}
    return [Contender(name, each, sizes[each]) for name in names for each in precisions] + nothing


def _play(contenders: list[Contender], frames: int, told: Callable[[str], None]) -> int:
    """Every contender sees the same frames. Each second round goes backwards; returns how many there were."""
    for each in contenders:
        each.play(0, WARM_UP)
    rounds = -(-frames // TURN)
    for index in range(rounds):
        told(f"round {index + 1} of {rounds}")
        for each in contenders[:: -1 if index % 2 else 1]:
            each.play(min(TURN, frames - index * TURN), SETTLE)
    return rounds
