"""Timings stage by stage, and the sequential run that takes them: what the benchmarks have in common."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from medtex_edge.contract import Contract
from medtex_edge.errors import DataError
from medtex_edge.runtime.backend import Backend
from medtex_edge.runtime.display.overlay import Overlay
from medtex_edge.runtime.display.pixels import to_bgr
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.reading import Reading, Verdict
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.smoothing import LIVE_S
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.summary import Histogram

STAGES = ("quality", "prepare", "infer", "convert", "draw", "other")  # in the order in which a frame passes them
GPU = "gpu"  # a part of "infer", by the GPU's own clock, where the engine knows it
WARM_UP = 10  # frames that are not measured


@dataclass
class StageTimings:
    """The timings of one run over the frames, one at a time or in threads. Times are of scored frames alone."""

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


class SequentialRun:
    """A run of one frame after the other on one backend. Filling the slot, the camera's work, is not timed."""

    def __init__(self, source: FrameSource, backend: Backend, contract: Contract) -> None:
        self.timings = StageTimings()
        self._source = source
        self._scorer = Scorer(backend, contract, stream=True, rate=source.rate, smooth_s=LIVE_S)
        self._overlay = Overlay(contract)
        self._overlay.warm()
        self._slot = Frame()
        self._picture: Pixels | None = None
        self._rate = 0.0  # of the frame before, to be drawn

    def frame(self, *, counted: bool = True) -> None:
        """Score and draw the next one. Raises `BackendError`."""
        slot = self._slot
        self._source.read(slot)
        assert slot.pixels is not None
        cpu, began = time.process_time(), time.perf_counter()
        reading = self._scorer.score(slot)
        read = time.perf_counter()
        direct = slot.layout == "bgr"
        self._picture = slot.pixels if direct else to_bgr(slot.pixels, slot.layout, self._picture)
        converted = time.perf_counter()
        self._overlay.draw(self._picture, reading, self._rate)
        ended = time.perf_counter()
        self._rate = 1 / (ended - began)
        if not counted or not counts(self.timings, reading):
            return
        self.timings.seconds += ended - began
        self.timings.cpu_seconds += time.process_time() - cpu
        parts = {stage: reading.latency_ms[stage] for stage in ("quality", "prepare", "infer")}
        if not direct:
            parts["convert"] = (converted - read) * 1e3
        parts["draw"] = (ended - converted) * 1e3
        whole = (ended - began) * 1e3
        within = {GPU: reading.latency_ms[GPU]} if GPU in reading.latency_ms else {}
        for stage, milliseconds in {**parts, **within, "other": whole - sum(parts.values()), "whole": whole}.items():
            self.timings.time(stage, milliseconds)


def counts(timings: StageTimings, reading: Reading) -> bool:
    """Count the reading as scored or refused; return whether it is a scored one."""
    if reading.verdict is Verdict.UNGRADABLE:
        timings.refused[reading.reason.value if reading.reason else "unknown"] += 1
        return False
    timings.scored += 1
    return True


def check_scored(timings: StageTimings, frames: int) -> None:
    """Raise `DataError` where there is nothing to measure."""
    if not timings.scored:
        reasons = ", ".join(f"{count} {reason}" for reason, count in timings.refused.most_common())
        raise DataError(
            f"none of {frames} frames was scored ({reasons}): there is nothing to measure",
            hint="show it fundus photographs: --source PATH, or another --size",
        )
