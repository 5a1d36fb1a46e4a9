"""Frame in, reading out: quality, geometry, inference, verdict. The one place where a frame is scored."""

from __future__ import annotations

import datetime
import time
from typing import Any

import numpy as np

from medtex_edge.contract import Contract
from medtex_edge.errors import NoFieldOfView
from medtex_edge.image import FieldOfView, crop_resize, find_field_of_view
from medtex_edge.runtime import quality
from medtex_edge.runtime.backend import Backend
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.quality import Facts, Inspector
from medtex_edge.runtime.reading import Reading, Reason, Verdict

STAGES = ("read", "quality", "prepare", "infer")  # in the order in which a frame passes them


class Scorer:
    """Scores the frames of one source, in order. Holds the graph's input buffer, so one per thread."""

    def __init__(self, backend: Backend, contract: Contract, *, live: bool = False, stream: bool = False) -> None:
        self._backend = backend
        self._contract = contract
        self._live = live
        self._stream = stream
        self._inspector = Inspector()
        self._input = np.zeros((1, contract.height, contract.width, 3), np.uint8)

    def score(self, frame: Frame) -> Reading:
        """Read one frame. What cannot be graded is not scored, and says why. Raises `BackendError`."""
        times = {"read": frame.read_ms}
        if frame.pixels is None:
            return self._reading(frame, times, reason=Reason.UNREADABLE, detail=frame.error)
        age_ms = (time.monotonic() - frame.captured) * 1e3
        # Asked before the inference: on a slow board an inference alone may take longer than that.
        if self._live and age_ms > quality.STALE_MS:
            detail = f"{age_ms:.0f} ms old, {quality.STALE_MS:.0f} ms allowed"
            return self._reading(frame, times, reason=Reason.STALE, detail=detail)
        with _Timed(times, "quality"):
            black = quality.is_black(frame.pixels)
            duplicate = self._stream and self._inspector.is_duplicate(frame.pixels)
        if black:
            return self._reading(frame, times, reason=Reason.BLACK, detail="no light in the frame")
        if duplicate:
            return self._reading(frame, times, reason=Reason.DUPLICATE, detail="equal to the frame before it")
        return self._look(frame, frame.pixels, times)

    def _look(self, frame: Frame, pixels: Pixels, times: dict[str, float]) -> Reading:
        c = self._contract
        try:
            with _Timed(times, "prepare"):
                box = find_field_of_view(pixels, layout="bgr")
                crop_resize(pixels, box, c.height, c.width, layout="bgr", out=self._input[0])
        except NoFieldOfView as error:
            return self._reading(frame, times, reason=Reason.NO_FIELD_OF_VIEW, detail=error.message)
        with _Timed(times, "quality"):
            facts = self._inspector.facts(pixels, box, self._input[0])
        refusal = quality.judge(facts)
        if refusal is not None:
            reason, detail = refusal
            return self._reading(frame, times, box, facts, reason=reason, detail=detail)
        with _Timed(times, "infer"):
            outputs = self._backend.infer(self._input)
        probabilities = outputs.probabilities[0]
        referable = float(c.referable_probability(probabilities))
        verdict = Verdict.REFERABLE if referable >= c.operating_point.threshold else Verdict.NOT_REFERABLE
        return self._reading(
            frame, times, box, facts, verdict=verdict, label=c.classes[int(probabilities.argmax())],
            probabilities=probabilities, referable_probability=referable, saliency=outputs.saliency[0],
        )  # fmt: skip

    def _reading(
        self,
        frame: Frame,
        times: dict[str, float],
        box: FieldOfView | None = None,
        facts: Facts | None = None,
        *,
        verdict: Verdict = Verdict.UNGRADABLE,
        **rest: Any,
    ) -> Reading:
        age_s = time.monotonic() - frame.captured
        captured = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age_s)
        size = None if frame.pixels is None else (frame.pixels.shape[1], frame.pixels.shape[0])
        return Reading(
            source=frame.source, frame=frame.index, captured=captured, age_ms=age_s * 1e3, size=size,
            verdict=verdict, field_of_view=box, quality=facts, latency_ms=times, **rest,
        )  # fmt: skip


class _Timed:
    """Add the block's duration in milliseconds to a stage."""

    def __init__(self, times: dict[str, float], stage: str) -> None:
        self._times, self._stage = times, stage

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = (time.perf_counter() - self._began) * 1e3
        self._times[self._stage] = self._times.get(self._stage, 0.0) + elapsed
