"""The benchmark: how long each stage of a frame takes on this machine, from `Scorer.score` to `Overlay.draw`.

First one frame at a time, each part under its own clock; then through the threads of `Pipeline`, as `medtex-edge run`
does it. A refused frame is counted as refused and timed nowhere: a refusal is faster than a reading.

The frames are the bundle's own examples, or a source's, as a camera of the requested size would show them. They are
made before the clock starts. No two that follow each other are equal: the eye moves by a pixel or two and every frame
has noise of its own, as in front of a camera; equal ones would be refused, and refusing is fast.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from medtex_edge.bundle import Bundle
from medtex_edge.errors import DataError, NoFieldOfView, SettingsError
from medtex_edge.files import sha256
from medtex_edge.image.geometry import find_field_of_view
from medtex_edge.runtime.backend import Backend, open_backend
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.bench import machine as bench_machine
from medtex_edge.runtime.bench.timings import WARM_UP, SequentialRun, StageTimings, check_scored, counts
from medtex_edge.runtime.display.pixels import to_bgr
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.smoothing import LIVE_S
from medtex_edge.runtime.sources.open import open_source
from medtex_edge.runtime.summary import Summary

Size = tuple[int, int]  # width, height in pixels

SCHEMA = "medtex-edge/bench/1"
FORMATS = ("bgr", "nv12", "yuyv", "grey")
_MEMORY_EVERY = 8  # frames between two readings of the memory
SIZE: Size = (1920, 1080)
SIDES = (64, 7680)  # pixels
_MOST_STILLS = 5
_STAY = 12  # frames of one eye, or a few more, before the next eye
_RATE = 25.0  # frames per second, as a camera would count them
_TURN_FRAMES = 25  # frames that pass uncounted while the camera is turned to the next eye
_RING_BYTES = 96 << 20
_FEWEST = 3  # frames of one eye; of two, each would be the one before the last
_DISC = 0.94  # of the shorter side
_TRAVEL = 0.002  # of the shorter side, how far the eye moves about its place: two pixels of 1080
_NOISE = 2.0  # grey levels, standard deviation


@dataclass(frozen=True)
class BenchOptions:
    """The options of `medtex-edge bench`. `size` None: 1920 x 1080, or the source's own."""

    bundle: Path
    size: Size | None = None
    layout: str = "bgr"
    backend: str = "onnxruntime"
    precision: str = "fp32"
    threads: int | None = None
    frames: int = 300
    source: str | None = None


def measure(options: BenchOptions) -> dict[str, Any]:
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
        **report_head(o, bundle, ring),
        "machine": machine,
        "in_turn": alone.to_json(),
        "in_threads": threaded.to_json(),
        "memory": memory,
        "warnings": bench_machine.warnings(machine, throttled),
    }


def ring_of(options: BenchOptions, bundle: Bundle) -> Ring:
    """The requested frames. Raises `DataError`, `SettingsError`, and what the source raises."""
    o = options
    if o.source is None:
        return Ring(golden_stills(bundle), o.size or SIZE, o.layout, whole=False)
    stills, own = source_stills(o.source)
    return Ring(stills, o.size or own, o.layout, whole=True)


def report_head(options: BenchOptions, bundle: Bundle, ring: Ring) -> dict[str, Any]:
    """The head of every report: what was measured."""
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
    turn, samples = SequentialRun(ring, backend, bundle.contract), []
    for index in range(WARM_UP + frames):
        turn.frame(counted=index >= WARM_UP)
        if index >= WARM_UP and index % _MEMORY_EVERY == 0:
            samples.append((index, bench_machine.resident_bytes() or 0))
    check_scored(turn.timings, frames)
    return turn.timings, _memory(samples)


class _Finish:
    """A sink at the pipeline's end: what it counts and when, the first `WARM_UP` readings left out."""

    name = "bench"

    def __init__(self) -> None:
        self.timings = StageTimings()
        self._finished = 0
        self._began = self._cpu = 0.0

    def write(self, reading: Reading, pixels: Pixels | None = None) -> None:
        """Count one drawn reading."""
        self._finished += 1
        now, cpu = time.perf_counter(), time.process_time()
        if self._finished <= WARM_UP:
            self._began, self._cpu = now, cpu
            return
        if counts(self.timings, reading):
            self.timings.seconds, self.timings.cpu_seconds = now - self._began, cpu - self._cpu

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing can be taken back."""


def _in_threads(ring: Ring, backend: Backend, bundle: Bundle, options: BenchOptions) -> StageTimings:
    """The same through the threads of `Pipeline`, where copying a frame into its slot is the capture thread's work."""
    ring.reopen()
    finish = _Finish()
    summary = Summary(ring.name, options.bundle.name, "", backend.name)
    scorer = Scorer(backend, bundle.contract, stream=True, rate=ring.rate, smooth_s=LIVE_S)
    pipeline = Pipeline(
        ring, scorer, bundle.contract, summary, picture_sinks=[finish], max_frames=WARM_UP + options.frames
    )
    pipeline.run()
    finish.timings.stages = summary.stages
    return finish.timings


def _memory(samples: list[tuple[int, int]]) -> dict[str, float | int] | None:
    """Resident megabytes at the end, and their growth per 1,000 frames.

    The median slope between any two readings (Theil and Sen): a buffer that is made once, late, is no growth.
    """
    if len(samples) < 2 or not samples[-1][1]:
        return None
    index, resident = np.array(samples, np.float64).T
    first, second = np.triu_indices(len(samples), 1)
    slope = float(np.median((resident[second] - resident[first]) / (index[second] - index[first]))) / 1e6
    return {
        "resident_mb": round(samples[-1][1] / 1e6, 1),
        "growth_mb_per_1000_frames": round(1000 * slope, 3),
        "frames": samples[-1][0] - samples[0][0],
    }


def parse_size(text: str) -> Size:
    """'1920x1080' -> (1920, 1080). Raises `SettingsError`."""
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise SettingsError(f"--size: expected WIDTHxHEIGHT, got {text!r}", hint="for example --size 1920x1080")
    size = int(width), int(height)
    if not SIDES[0] <= min(size) <= max(size) <= SIDES[1]:
        raise SettingsError(f"--size: expected sides of {SIDES[0]} to {SIDES[1]} pixels, got {text}")
    return size


def golden_stills(bundle: Bundle) -> list[Pixels]:
    """The bundle's golden photographs, (H, W, 3) uint8 BGR; what shows no fundus is left out. Raises `DataError`."""
    stills = []
    for image in bundle.golden.images:
        try:
            find_field_of_view(image)
        except NoFieldOfView:  # black, white and noise are among them, to hold a device to its answers
            continue
        stills.append(np.ascontiguousarray(image[..., ::-1]))
    if not stills:
        raise DataError(
            f"{bundle.path}: none of its {len(bundle.golden)} golden frames shows a fundus",
            hint="name photographs or a video: --source PATH",
        )
    return stills[:_MOST_STILLS]


def source_stills(spec: str) -> tuple[list[Pixels], Size]:
    """The first pictures of a file, folder, video or stream in BGR, and the first one's size. Raises as the source."""
    source = open_source(spec)
    stills: list[Pixels] = []
    try:
        slot = Frame()
        while len(stills) < _MOST_STILLS and source.read(slot):
            if slot.pixels is not None:
                bgr = slot.pixels if slot.layout == "bgr" else to_bgr(slot.pixels, slot.layout, None)
                stills.append(bgr.copy())
    finally:
        source.close()
    if not stills:
        raise DataError(f"{source.name}: no picture of it could be read", hint="name another source")
    height, width = stills[0].shape[:2]
    return stills, (width, height)


class Ring:
    """Frames in one layout, given in an order that never repeats the one before: a `FrameSource` that never ends."""

    live = False  # every frame counts
    stream = True
    rate = _RATE
    count: int | None = None

    def __init__(self, stills: Sequence[Pixels], size: Size, layout: str, *, whole: bool) -> None:
        """`whole`: stills are photographs with their border and fill the frame; else they are cropped to the disc."""
        if layout in ("nv12", "yuyv") and (size[0] % 2 or size[1] % 2):
            raise SettingsError(f"--size: expected even sides for {layout}, got {size[0]}x{size[1]}")
        self.name = f"{size[0]}x{size[1]} {layout}"
        self.size = size
        self.layout = layout
        self.notes: list[str] = []
        most = max(2 * _FEWEST, min(24, _RING_BYTES // (3 * size[0] * size[1])))
        stills = stills[: max(1, most // _FEWEST)]
        self._each = most // len(stills)
        self._stay = self._each * max(1, _STAY // self._each)
        rng = np.random.default_rng(0)
        self.frames = [
            to_layout(_shown(still, size, place / self._each, whole, rng), layout)
            for still in stills
            for place in range(self._each)
        ]
        self._next = 0

    def read(self, frame: Frame) -> bool:
        """Copy the next frame into the slot, as a driver would."""
        began = time.monotonic()
        pixels = self.frames[self._place(self._next)]
        if frame.buffer is None or frame.buffer.shape != pixels.shape:
            frame.buffer = np.empty_like(pixels)
        np.copyto(frame.buffer, pixels)
        frame.pixels, frame.layout, frame.source, frame.error = frame.buffer, self.layout, self.name, ""
        frame.index = self._next + _TURN_FRAMES * (self._next // self._stay)
        self._next += 1
        frame.captured = time.monotonic()
        frame.read_ms = (frame.captured - began) * 1e3
        return True

    def again(self) -> Ring:
        """The same frames once more, from the first one on, at no cost of memory."""
        other = copy.copy(self)
        other.reopen()
        return other

    def skip(self) -> bool:
        """Pass over one frame."""
        self._next += 1
        return True

    def reopen(self) -> None:
        """Begin again."""
        self._next = 0

    def close(self) -> None:
        """Nothing is open."""

    def _place(self, index: int) -> int:
        eye = index // self._stay % (len(self.frames) // self._each)
        return eye * self._each + index % self._each


def to_layout(bgr: Pixels, layout: str) -> Pixels:
    """(H, W, 3) BGR -> one of `medtex_edge.image.geometry.LAYOUTS`; the chroma of YUYV and NV12 by OpenCV's I420."""
    if layout == "bgr":
        return bgr
    if layout == "grey":
        grey: Pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        return grey
    height, width = bgr.shape[:2]
    planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    if layout == "nv12":
        return np.concatenate([luma, chroma.transpose(1, 2, 0).reshape(height // 2, width)])
    both = chroma.transpose(1, 2, 0).reshape(height // 2, width).repeat(2, axis=0)
    return np.stack([luma, both], axis=2)


def _shown(still: Pixels, size: Size, turn: float, whole: bool, rng: np.random.Generator) -> Pixels:
    """The still in the middle of a black frame, moved along a small circle by `turn` (0..1), with noise."""
    width, height = size
    share = 1.0 if whole else _DISC
    scale = min(width / still.shape[1], height / still.shape[0]) * share
    angle, travel = 2 * math.pi * turn, _TRAVEL * min(size)
    x = (width - scale * still.shape[1]) / 2 + travel * math.cos(angle)
    y = (height - scale * still.shape[0]) / 2 + travel * math.sin(angle)
    wanted = (max(1, round(scale * still.shape[1])), max(1, round(scale * still.shape[0])))
    fitted = cv2.resize(still, wanted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    placed = cv2.warpAffine(fitted, np.array([[1, 0, round(x)], [0, 1, round(y)]], np.float32), size)
    # One plane of noise, rolled for each channel: drawing three would take seconds at 4K.
    noise = rng.normal(0, _NOISE, placed.shape[:2]).astype(np.float32)
    shifted = np.stack([noise, np.roll(noise, 7, axis=1), np.roll(noise, 7, axis=0)], axis=2)
    noisy: Pixels = np.clip(placed + shifted, 0, 255).astype(np.uint8)
    return noisy
