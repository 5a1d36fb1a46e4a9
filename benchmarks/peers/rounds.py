"""Rounds: each contender reads the same two frames in turn, and each part of ours meets its counterpart.

Whatever else the machine does falls on all of them, so the ratio of a round means something where its milliseconds do
not. The second frame counts: as in a program that runs on, code and buffers are then still in the contender's caches.
Single parts are done three times in a row for the same reason, and the fastest counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.peers.baselines import Baseline, Pixels
from medtex_edge.contract import Contract
from medtex_edge.errors import DataError
from medtex_edge.image.geometry import crop_resize, find_field_of_view
from medtex_edge.runtime.backend import Backend
from medtex_edge.runtime.bench.bench import Ring
from medtex_edge.runtime.display.overlay import FAINTEST, Overlay, blend_table
from medtex_edge.runtime.display.pixels import draw_saliency, to_bgr
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.quality.gate import Inspector
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.smoothing import LIVE_S

U8 = npt.NDArray[np.uint8]
Times = dict[str, list[float]]  # milliseconds, one a round

OURS = "ours"
_WARM_UP = 5
_PAUSE_S = 0.003  # workers of the one before may still be spinning on the cores
_REPEATS = 3  # of a single part
_DENSE = 0.35, 0.95  # the saliency of the dense map: every pixel of it is drawn


class Ours:
    """The product: `Scorer.score` and `Overlay.draw`, as `Pipeline` calls them."""

    def __init__(self, backend: Backend, contract: Contract) -> None:
        self._scorer = Scorer(backend, contract, stream=True, smooth_s=LIVE_S)
        self._overlay = Overlay(contract)
        self._overlay.warm()
        self._canvas: U8 | None = None
        self.reading: Reading | None = None

    def __call__(self, frame: Frame) -> dict[str, float]:
        assert frame.pixels is not None
        began = time.perf_counter()
        reading = self._scorer.score(frame)
        read = time.perf_counter()
        picture = frame.pixels
        if frame.layout != "bgr":
            picture = self._canvas = to_bgr(picture, frame.layout, self._canvas)
        converted = time.perf_counter()
        self._overlay.draw(picture, reading, 30.0)
        ended = time.perf_counter()
        if reading.saliency is None:
            raise DataError(f"a frame was refused ({reading.detail}): there is nothing to compare")
        self.reading = reading
        found = {stage: reading.latency_ms[stage] for stage in _STAGES}
        found["convert"] = (converted - read) * 1e3
        found["overlay"] = (ended - converted) * 1e3
        whole = (ended - began) * 1e3
        return {**found, "other": whole - sum(found.values()), "whole": whole}


_STAGES = ("quality", "prepare", "infer")


@dataclass
class Case:
    """One size and layout: milliseconds of every contender's parts, and of single parts, round by round."""

    size: tuple[int, int]
    layout: str
    whole: dict[str, Times] = field(default_factory=dict)
    single: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # part -> who -> ms
    drawn: list[float] = field(default_factory=list)  # share of the box's pixels that our overlay changes
    side: int = 0  # of the box, in pixels

    @property
    def name(self) -> str:
        return f"{self.size[0]} x {self.size[1]} {self.layout}"

    def ratios(self, over: str, under: str, part: str = "whole") -> npt.NDArray[np.float64]:
        """Per round: how much longer `over` took than `under`."""
        above, below = (np.array(self.whole[who][part]) for who in (over, under))
        return np.asarray(above / below)

    def pixels(self, who: str) -> npt.NDArray[np.float64]:
        """Per round: milliseconds of everything that is not the inference."""
        return np.asarray(np.array(self.whole[who]["whole"]) - np.array(self.whole[who]["infer"]))


def play(ring: Ring, case: Case, ours: Ours, baselines: dict[str, Baseline], contract: Contract, rounds: int) -> Case:
    """Fill `case`."""
    contenders: dict[str, Callable[[Frame], dict[str, float]]] = {OURS: ours, **baselines}
    names = list(contenders)
    slots, single = (Frame(), Frame()), _Single(contract)
    for turn in range(_WARM_UP + rounds):
        for slot in slots:
            ring.read(slot)
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(_PAUSE_S)
            for slot in slots:
                assert slot.pixels is not None
                frame = Frame(slot.pixels.copy(), slot.layout, index=slot.index, captured=time.monotonic())
                taken = contenders[name](frame)
            if turn >= _WARM_UP:
                for part, value in taken.items():
                    case.whole.setdefault(name, {}).setdefault(part, []).append(value)
        pixels = slots[1].pixels
        if case.layout != "bgr" or ours.reading is None or pixels is None:
            continue
        time.sleep(_PAUSE_S)
        found = single.measure(pixels, ours.reading, turn)
        if turn >= _WARM_UP:
            for part, taken in found.items():
                for who, value in taken.items():
                    case.single.setdefault(part, {}).setdefault(who, []).append(value)
            case.drawn.append(float((_enlarged(ours.reading) > FAINTEST).mean()))
            case.side = ours.reading.field_of_view.side if ours.reading.field_of_view else 0
    return case


class _Single:
    """Single parts, each of ours next to OpenCV's, on copies of one frame."""

    def __init__(self, contract: Contract) -> None:
        self._side = contract.width
        self._input = np.zeros((contract.height, contract.width, 3), np.uint8)
        self._table = blend_table()
        self._pixels, self._inspector = Pixels(), Inspector()
        low, high = _DENSE
        grid = np.linspace(low, high, contract.saliency_height * contract.saliency_width, dtype=np.float32)
        self._dense = grid.reshape(contract.saliency_height, contract.saliency_width)

    def measure(self, frame: U8, reading: Reading, turn: int) -> dict[str, dict[str, float]]:
        """Milliseconds by part and by who."""
        p, canvas = self._pixels, frame.copy()
        box, saliency = reading.field_of_view, reading.saliency
        assert box is not None
        assert saliency is not None
        _, square = p.prepare(frame, self._side)

        def draw(by: Callable[..., None], grid: Any, *rest: Any) -> Callable[[], None]:
            return lambda: by(canvas, grid, *rest)

        def ours() -> None:
            crop_resize(frame, find_field_of_view(frame, layout="bgr"), *self._input.shape[:2], layout="bgr",
                        out=self._input)  # fmt: skip

        def quality() -> None:
            self._inspector.precheck_frame(frame, "bgr")
            self._inspector.metrics(frame, box, self._input, "bgr")

        work: dict[str, dict[str, Callable[[], object]]] = {
            "field of view + crop + resize": {OURS: ours, "a": lambda: p.prepare(frame, self._side)}
        }
        for kind, grid in (("real", saliency), ("dense", self._dense)):
            work[f"overlay, {kind} map"] = {
                OURS: draw(draw_saliency, grid, box, self._table),
                "a": draw(p.overlay_map_first, grid, square),
                "a, colours first": draw(p.overlay, grid, square),
            }
        work["frame quality"] = {
            OURS: quality,
            "a": lambda: variance_of_laplacian(frame, cv2.INTER_AREA),
            "a, aliased": lambda: variance_of_laplacian(frame, cv2.INTER_LINEAR),
        }
        return {part: _timed(calls, turn) for part, calls in work.items()}


def variance_of_laplacian(bgr: U8, interpolation: int) -> float:
    """At quarter size: the usual measure of sharpness. The faster order: to grey first where the whole is averaged."""
    if interpolation == cv2.INTER_AREA:
        grey = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), None, fx=0.25, fy=0.25, interpolation=interpolation)
    else:
        grey = cv2.cvtColor(cv2.resize(bgr, None, fx=0.25, fy=0.25, interpolation=interpolation), cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(deviation[0, 0] ** 2)


def copy_speed(size: int, threads: int) -> float:
    """Gigabytes per second that a copy of `size` bytes moves, those read and those written, by so many threads."""
    parts = [(np.ones(size // threads, np.uint8), np.zeros(size // threads, np.uint8)) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(30):
            began = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts))
            best = max(best, 2 * size / (time.perf_counter() - began) / 1e9)
    return best


def _timed(calls: dict[str, Callable[[], object]], turn: int) -> dict[str, float]:
    names = list(calls)
    shift = turn % len(names)
    taken: dict[str, float] = {}
    for name in names[shift:] + names[:shift]:
        for _ in range(_REPEATS):
            began = time.perf_counter()
            calls[name]()
            taken[name] = min(taken.get(name, math.inf), (time.perf_counter() - began) * 1e3)
    return taken


def _enlarged(reading: Reading) -> Any:
    assert reading.saliency is not None
    return cv2.resize(reading.saliency, (256, 256))
