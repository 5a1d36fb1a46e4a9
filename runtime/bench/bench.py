"""What the product does with a frame and how long each part takes: `Scorer.score` and `Overlay.draw`, on this machine.

First one frame at a time, each part under its own clock; then through the threads of `Pipeline`, as `medtex-edge run`
does it. A refused frame is counted as refused and timed nowhere: a refusal is faster than a reading.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtex_edge.bundle import Bundle
from medtex_edge.files import sha256
from medtex_edge.runtime.backend import Backend, open_backend
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.bench import machine as bench_machine
from medtex_edge.runtime.bench.frames import SIZE, Ring, Size, golden_stills, source_stills
from medtex_edge.runtime.bench.timings import WARM_UP, SequentialRun, StageTimings, check_scored, counts
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.smoothing import LIVE_S
from medtex_edge.runtime.summary import Summary

SCHEMA = "medtex-edge/bench/1"
FORMATS = ("bgr", "nv12", "yuyv", "grey")
_LOOK_EVERY = 8  # frames between two looks at the memory


@dataclass(frozen=True)
class Options:
    """What `medtex-edge bench` was asked for. `size` None: 1920 x 1080, or the source's own."""

    bundle: Path
    size: Size | None = None
    layout: str = "bgr"
    backend: str = "onnxruntime"
    precision: str = "fp32"
    threads: int | None = None
    frames: int = 300
    source: str | None = None


def measure(options: Options) -> dict[str, Any]:
    """Run the benchmark and give its report, a value for `json.dumps`. Raises `MedtexError`.

    `DataError` where no frame was scored: there is nothing to measure then.
    """
    o = options
    bundle = Bundle.open(o.bundle)
    with open_backend(o.backend, bundle, precision=o.precision, threads=o.threads) as backend:
        check_golden(backend, bundle, o.precision)
        ring = ring_of(o, bundle)
        machine = bench_machine.describe(backend.name, o.precision)
        throttled = bench_machine.throttled()
        alone, memory = _in_turn(ring, backend, bundle, o.frames)
        threaded = _in_threads(ring, backend, bundle, o)
    return {
        "schema": SCHEMA,
        **described(o, bundle, ring),
        "machine": machine,
        "in_turn": alone.to_json(),
        "in_threads": threaded.to_json(),
        "memory": memory,
        "warnings": bench_machine.warnings(machine, throttled),
    }


def ring_of(options: Options, bundle: Bundle) -> Ring:
    """The frames that were asked for. Raises `DataError`, `SettingsError`, and as the source."""
    o = options
    if o.source is None:
        return Ring(golden_stills(bundle), o.size or SIZE, o.layout, whole=False)
    stills, own = source_stills(o.source)
    return Ring(stills, o.size or own, o.layout, whole=True)


def described(options: Options, bundle: Bundle, ring: Ring) -> dict[str, Any]:
    """What was measured: the head of every report."""
    o = options
    return {
        "bundle": o.bundle.name,
        "bundle_sha256": sha256(o.bundle),
        "model": bundle.contract.name,
        "source": "golden frames" if o.source is None else Path(o.source).name,
        "size": list(ring.size),
        "format": o.layout,
        "threads": o.threads,
        "frames": o.frames,
        "warm_up": WARM_UP,
    }


def _in_turn(
    ring: Ring, backend: Backend, bundle: Bundle, frames: int
) -> tuple[StageTimings, dict[str, float | int] | None]:
    turn, looks = SequentialRun(ring, backend, bundle.contract), []
    for index in range(WARM_UP + frames):
        turn.frame(counted=index >= WARM_UP)
        if index >= WARM_UP and index % _LOOK_EVERY == 0:
            looks.append((index, bench_machine.resident_bytes() or 0))
    check_scored(turn.way, frames)
    return turn.way, _memory(looks)


class _Finish:
    """A sink at the pipeline's end: what it counts and when, the first `WARM_UP` readings left out."""

    name = "bench"

    def __init__(self) -> None:
        self.way = StageTimings()
        self._seen = 0
        self._began = self._cpu = 0.0

    def write(self, reading: Reading, pixels: Pixels | None = None) -> None:
        """Count one drawn reading."""
        self._seen += 1
        now, cpu = time.perf_counter(), time.process_time()
        if self._seen <= WARM_UP:
            self._began, self._cpu = now, cpu
            return
        if counts(self.way, reading):
            self.way.seconds, self.way.cpu_seconds = now - self._began, cpu - self._cpu

    def close(self) -> None:
        """Nothing is held open."""

    def abandon(self) -> None:
        """Nothing can be taken back."""


def _in_threads(ring: Ring, backend: Backend, bundle: Bundle, options: Options) -> StageTimings:
    """The same through the threads of `Pipeline`, where copying a frame into its slot is the capture thread's work."""
    ring.reopen()
    finish = _Finish()
    summary = Summary(ring.name, options.bundle.name, "", backend.name)
    scorer = Scorer(backend, bundle.contract, stream=True, rate=ring.rate, smooth_s=LIVE_S)
    pipeline = Pipeline(
        ring, scorer, bundle.contract, summary, picture_sinks=[finish], max_frames=WARM_UP + options.frames
    )
    pipeline.run()
    finish.way.stages = summary.stages
    return finish.way


def _memory(looks: list[tuple[int, int]]) -> dict[str, float | int] | None:
    """Resident megabytes at the end, and their growth per 1,000 frames.

    The median slope between any two looks (Theil and Sen): a buffer that is made once, late, is no growth.
    """
    if len(looks) < 2 or not looks[-1][1]:
        return None
    index, resident = np.array(looks, np.float64).T
    first, second = np.triu_indices(len(looks), 1)
    slope = float(np.median((resident[second] - resident[first]) / (index[second] - index[first]))) / 1e6
    return {
        "resident_mb": round(looks[-1][1] / 1e6, 1),
        "growth_mb_per_1000_frames": round(1000 * slope, 3),
        "frames": looks[-1][0] - looks[0][0],
    }
