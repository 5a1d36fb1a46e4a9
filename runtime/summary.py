"""The summary of a run: counts, and latency per stage in histograms whose memory does not grow with the run."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medtex_edge.runtime.reading import Reading, Verdict

_FINEST_MS = 1e-3
_STEP = math.log(1.02)  # buckets two per cent wide, so that a percentile is right to one per cent
_BUCKETS = 1 + math.ceil(math.log(1e6 / _FINEST_MS) / _STEP)  # up to a thousand seconds


class Histogram:
    """Durations in milliseconds, in buckets of two per cent."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self.count = 0
        self.largest = 0.0

    def add(self, milliseconds: float) -> None:
        """Count one duration."""
        bucket = int(math.log(max(milliseconds, _FINEST_MS) / _FINEST_MS) / _STEP)
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1
        self.largest = max(self.largest, milliseconds)

    def percentile(self, share: float) -> float:
        """The duration that `share` (0..1) of them do not exceed, in milliseconds; 0 where there are none."""
        if self.count == 0:
            return 0.0
        bucket = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(share * self.count))))
        return min(_FINEST_MS * math.exp((bucket + 0.5) * _STEP), self.largest)

    def to_json(self) -> dict[str, float | int]:
        """Count, median, p95, p99 and largest, in milliseconds."""
        return {
            "count": self.count,
            "median": round(self.percentile(0.5), 3),
            "p95": round(self.percentile(0.95), 3),
            "p99": round(self.percentile(0.99), 3),
            "max": round(self.largest, 3),
        }


@dataclass
class Summary:
    """Counts of a run. Threads add to it through its methods; the fields may be read when the run is over."""

    source: str
    bundle: str
    bundle_sha256: str
    backend: str
    ended: str = "source ended"  # or "interrupted", "max frames", "closed by the user", "failed"
    read: int = 0  # frames that the source gave
    dropped: int = 0  # of them, replaced by a newer one before they could be scored
    scored: int = 0
    recoveries: int = 0  # times that a lost source was opened again
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # ungradable frames by reason
    stages: dict[str, Histogram] = field(default_factory=dict)
    sinks: list[dict[str, Any]] = field(default_factory=list)  # name, path, written, lost, error
    notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, reading: Reading) -> None:
        """Count one reading."""
        with self._lock:
            self.verdicts[reading.verdict.value] += 1
            if reading.verdict is Verdict.UNGRADABLE:
                self.refused[reading.reason.value if reading.reason else "unknown"] += 1
            else:
                self.scored += 1
        for stage, milliseconds in reading.latency_ms.items():
            self.time(stage, milliseconds)
        self.time("age", reading.age_ms)

    def time(self, stage: str, milliseconds: float) -> None:
        """Count one duration of a stage."""
        with self._lock:
            self.stages.setdefault(stage, Histogram()).add(milliseconds)

    @property
    def frames_per_second(self) -> float:
        """Readings per second, scored or refused."""
        return sum(self.verdicts.values()) / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        return {
            "schema": "medtex-edge/summary/1",
            "source": self.source,
            "bundle": self.bundle,
            "bundle_sha256": self.bundle_sha256,
            "backend": self.backend,
            "ended": self.ended,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 2),
            "frames": {
                "read": self.read,
                "scored": self.scored,
                "dropped": self.dropped,
                "refused": dict(self.refused),
            },
            "verdicts": dict(self.verdicts),
            "recoveries": self.recoveries,
            "latency_ms": {stage: histogram.to_json() for stage, histogram in self.stages.items()},
            "sinks": self.sinks,
            "notes": self.notes,
        }
