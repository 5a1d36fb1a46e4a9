"""What the product does with a frame and how long each part takes: `Scorer.score` and `Overlay.draw`, on this machine.

First one frame at a time, each part under its own clock; then through the threads of `Pipeline`, as `medtex-edge run`
does it. A refused frame is counted as refused and timed nowhere: a refusal is faster than a reading.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medtex_edge.bundle import Bundle
from medtex_edge.errors import DataError
from medtex_edge.files import sha256
from medtex_edge.runtime import bench_machine
from medtex_edge.runtime.backend import Backend, open_backend
from medtex_edge.runtime.bench_frames import SIZE, Ring, Size, golden_stills, source_stills
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.golden import check_golden
from medtex_edge.runtime.overlay import Overlay
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.pixels import to_bgr
from medtex_edge.runtime.reading import Reading, Verdict
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.smoothing import LIVE_S
from medtex_edge.runtime.summary import Histogram, Summary

SCHEMA = "medtex-edge/bench/1"
FORMATS = ("bgr", "nv12", "yuyv", "grey")
STAGES = ("quality", "prepare", "infer", "convert", "draw", "other")  # in the order in which a frame passes them
WARM_UP = 10  # frames that are measured by nobody
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


@dataclass
class Way:
    """One way through the frames, one at a time or in threads. Times are of scored frames alone."""

    scored: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Histogram] = field(default_factory=dict)
    seconds: float = 0.0  # of all frames but the first `WARM_UP`
    cpu_seconds: float = 0.0

    def time(self, stage: str, milliseconds: float) -> None:
        """Count one duration of a stage."""
        self.stages.setdefault(stage, Histogram()).add(milliseconds)

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        return {
            "scored": self.scored,
            "refused": dict(self.refused),
            "frames_per_second": round(self.scored / self.seconds, 2) if self.seconds else 0.0,
            "cores_used": round(self.cpu_seconds / self.seconds, 3) if self.seconds else 0.0,
            "latency_ms": {stage: histogram.to_json() for stage, histogram in self.stages.items()},
        }


def measure(options: Options) -> dict[str, Any]:
    """Run the benchmark and give its report, a value for `json.dumps`. Raises `MedtexError`.

    `DataError` where no frame was scored: there is nothing to measure then.
    """
    o = options
    bundle = Bundle.open(o.bundle)
    with open_backend(o.backend, bundle, precision=o.precision, threads=o.threads) as backend:
        check_golden(backend, bundle, o.precision)
        if o.source is None:
            stills, size = golden_stills(bundle), o.size or SIZE
        else:
            stills, own = source_stills(o.source)
            size = o.size or own
        ring = Ring(stills, size, o.layout, whole=o.source is not None)
        machine = bench_machine.describe(backend.name, o.precision)
        throttled = bench_machine.throttled()
        alone, memory = _in_turn(ring, backend, bundle, o.frames)
        threaded = _in_threads(ring, backend, bundle, o)
    return {
        "schema": SCHEMA,
        "bundle": o.bundle.name,
        "bundle_sha256": sha256(o.bundle),
        "model": bundle.contract.name,
        "source": "golden frames" if o.source is None else Path(o.source).name,
        "size": list(size),
        "format": o.layout,
        "threads": o.threads,
        "frames": o.frames,
        "warm_up": WARM_UP,
        "machine": machine,
        "in_turn": alone.to_json(),
        "in_threads": threaded.to_json(),
        "memory": memory,
        "warnings": bench_machine.warnings(machine, throttled),
    }


def _in_turn(ring: Ring, backend: Backend, bundle: Bundle, frames: int) -> tuple[Way, dict[str, float | int] | None]:
    """One frame after the other; filling the slot, the camera's work, is outside of the clock."""
    scorer = Scorer(backend, bundle.contract, stream=True, rate=ring.rate, smooth_s=LIVE_S)
    overlay = Overlay(bundle.contract)
    overlay.warm()
    way, slot, memory = Way(), Frame(), []
    picture: Pixels | None = None
    rate = 0.0
    for index in range(WARM_UP + frames):
        ring.read(slot)
        assert slot.pixels is not None
        cpu, began = time.process_time(), time.perf_counter()
        reading = scorer.score(slot)
        read = time.perf_counter()
        picture = slot.pixels if slot.layout == "bgr" else to_bgr(slot.pixels, slot.layout, picture)
        converted = time.perf_counter()
        overlay.draw(picture, reading, rate)
        ended = time.perf_counter()
        rate = 1 / (ended - began)
        if index < WARM_UP:
            continue
        if _counts(way, reading):
            way.seconds += ended - began
            way.cpu_seconds += time.process_time() - cpu
            parts = {stage: reading.latency_ms[stage] for stage in ("quality", "prepare", "infer")}
            if slot.layout != "bgr":
                parts["convert"] = (converted - read) * 1e3
            parts["draw"] = (ended - converted) * 1e3
            whole = (ended - began) * 1e3
            for stage, milliseconds in {**parts, "other": whole - sum(parts.values()), "whole": whole}.items():
                way.time(stage, milliseconds)
        if index % _LOOK_EVERY == 0:
            memory.append((index, bench_machine.resident_bytes() or 0))
    if not way.scored:
        reasons = ", ".join(f"{count} {reason}" for reason, count in way.refused.most_common())
        raise DataError(
            f"none of {frames} frames was scored ({reasons}): there is nothing to measure",
            hint="show it fundus photographs: --source PATH, or another --size",
        )
    return way, _memory(memory)


class _Finish:
    """A sink at the pipeline's end: what it counts and when, the first `WARM_UP` readings left out."""

    name = "bench"

    def __init__(self) -> None:
        self.way = Way()
        self._seen = 0
        self._began = self._cpu = 0.0

    def write(self, reading: Reading, pixels: Pixels | None = None) -> None:
        """Count one drawn reading."""
        self._seen += 1
        now, cpu = time.perf_counter(), time.process_time()
        if self._seen <= WARM_UP:
            self._began, self._cpu = now, cpu
            return
        if _counts(self.way, reading):
            self.way.seconds, self.way.cpu_seconds = now - self._began, cpu - self._cpu

    def close(self) -> None:
        """Nothing is held open."""

    def abandon(self) -> None:
        """Nothing can be taken back."""


def _in_threads(ring: Ring, backend: Backend, bundle: Bundle, options: Options) -> Way:
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


def _counts(way: Way, reading: Reading) -> bool:
    """Whether the reading is a scored one; it is counted either way."""
    if reading.verdict is Verdict.UNGRADABLE:
        way.refused[reading.reason.value if reading.reason else "unknown"] += 1
        return False
    way.scored += 1
    return True


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
