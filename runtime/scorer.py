"""Frame in, reading out: quality, geometry, inference, verdict. The one place where a frame is scored."""

from __future__ import annotations

import datetime
import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract
from medtex_edge.errors import NoFieldOfView
from medtex_edge.image.geometry import FieldOfView, crop_resize, find_field_of_view
from medtex_edge.runtime.backend import Backend, Outputs
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.quality import gate
from medtex_edge.runtime.quality.gate import Inspector, QualityMetrics
from medtex_edge.runtime.quality.motion import FASTEST, Motion, MotionMeter, SteadyBox
from medtex_edge.runtime.reading import Reading, Reason, Verdict
from medtex_edge.runtime.smoothing import Smoother

STAGES = ("read", "quality", "prepare", "infer")  # in the order in which a frame passes them

_USUAL_RATE = 25.0  # frames per second of a file that does not say


class Scorer:
    """Scores the frames of one source, in order. Fills the graph's input buffer, so one per thread and backend.

    Frames of a `stream` follow each other in time, so that one can repeat or move against the one before; a `live` one
    can be stale. `rate` is what a file says of its frames per second. `smooth_s` is over how many seconds answers are
    averaged (see `Smoother`); 0: every frame stands alone.
    """

    def __init__(
        self,
        backend: Backend,
        contract: Contract,
        *,
        live: bool = False,
        stream: bool = False,
        rate: float = 0.0,
        smooth_s: float = 0.0,
    ) -> None:
        self._backend = backend
        self._contract = contract
        self._live = live
        self._stream = stream
        self._rate = rate if rate > 0 else _USUAL_RATE
        self._inspector = Inspector()
        self._input = np.zeros((1, contract.height, contract.width, 3), np.uint8)
        self._box = SteadyBox()
        self._motion = MotionMeter(len(self._inspector.structure))
        self._smoother = Smoother(smooth_s if stream else 0.0)
        self._fastest_ms = math.inf  # of all inferences
        self._measured_s: float | None = None  # of the last frame whose structure was measured
        self._scored_s: float | None = None

    def score(self, frame: Frame) -> Reading:
        """Read one frame. What cannot be graded is not scored, and says why. Raises `BackendError`."""
        times = {"read": frame.read_ms}
        if frame.pixels is None:
            return self._refuse(frame, times, Reason.UNREADABLE, frame.error)
        age_ms = (time.monotonic() - frame.captured) * 1e3
        # Asked before the inference: on a slow board an inference alone may take longer than that.
        if self._live and age_ms > gate.STALE_MS:
            return self._refuse(frame, times, Reason.STALE, f"{age_ms:.0f} ms old, {gate.STALE_MS:.0f} ms allowed")
        with _Timed(times, "quality"):
            refusal = self._inspector.precheck_frame(frame.pixels, frame.layout)
        if refusal is Reason.BLACK:
            return self._refuse(frame, times, refusal, "no light in the frame")
        if refusal is Reason.DUPLICATE and self._stream:
            return self._refuse(frame, times, refusal, "equal to the frame before it")
        return self._grade(frame, frame.pixels, times)

    def _grade(self, frame: Frame, pixels: Pixels, times: dict[str, float]) -> Reading:
        c, image = self._contract, self._image()
        try:
            with _Timed(times, "prepare"):
                box = find_field_of_view(pixels, layout=frame.layout)
                if self._stream:
                    box = self._box.follow(box)
                crop_resize(pixels, box, c.height, c.width, layout=frame.layout, out=image[0])
        except NoFieldOfView as error:
            return self._refuse(frame, times, Reason.NO_FIELD_OF_VIEW, error.message)
        with _Timed(times, "quality"):
            metrics = self._inspector.metrics(pixels, box, image[0], frame.layout)
            motion = self._measure_motion(frame, box)
        refusal = gate.assess(metrics)
        if refusal is None and motion.speed is not None and motion.speed > FASTEST:
            detail = f"{motion.speed:.1f} disc diameters per second, {FASTEST:.1f} allowed"
            refusal = Reason.MOVING, detail
        if refusal is not None:
            return self._refuse(frame, times, *refusal, box=box, metrics=metrics)
        if not motion.same_scene:
            self._smoother.reset()
        with _Timed(times, "infer"):
            outputs = self._backend.infer(image)
        if outputs.gpu_ms is not None:
            times["gpu"] = outputs.gpu_ms  # a part of "infer"
        self._fastest_ms = min(self._fastest_ms, times["infer"])
        # Asked again: the process may have stood still meanwhile. What an inference takes at best is the board's own.
        age_ms, allowed_ms = (time.monotonic() - frame.captured) * 1e3, gate.STALE_MS + self._fastest_ms
        if self._live and age_ms > allowed_ms:
            detail = f"answered {age_ms:.0f} ms after it was taken, {allowed_ms:.0f} ms allowed"
            return self._refuse(frame, times, Reason.STALE, detail, box=box, metrics=metrics)
        return self._answer(frame, times, outputs, box, metrics)

    def _image(self) -> npt.NDArray[np.uint8]:
        """Where to prepare the next image: in the backend's own memory where it has some, which saves a copy."""
        # Asked anew for each frame: a backend may be taken over from by another.
        own: npt.NDArray[np.uint8] | None = getattr(self._backend, "input_buffer", None)
        return self._input if own is None else own

    def _answer(
        self, frame: Frame, times: dict[str, float], outputs: Outputs, box: FieldOfView, metrics: QualityMetrics
    ) -> Reading:
        c = self._contract
        now_s = self._time_s(frame)
        since_s = math.inf if self._scored_s is None else now_s - self._scored_s
        self._scored_s = now_s
        alone = float(c.referable_probability(outputs.probabilities[0]))
        probabilities, saliency, frames = self._smoother.add(outputs.probabilities[0], outputs.saliency[0], since_s)
        referable = float(c.referable_probability(probabilities))
        verdict = Verdict.REFERABLE if referable >= c.operating_point.threshold else Verdict.NOT_REFERABLE
        return self._reading(
            frame, times, box, metrics, verdict=verdict, label=c.classes[int(probabilities.argmax())],
            probabilities=probabilities, referable_probability=referable, saliency=saliency,
            smoothed_frames=frames, frame_referable_probability=alone,
        )  # fmt: skip

    def _measure_motion(self, frame: Frame, box: FieldOfView) -> Motion:
        if not self._stream:
            return Motion(None, same_scene=False)
        now_s = self._time_s(frame)
        since_s = math.inf if self._measured_s is None else now_s - self._measured_s
        self._measured_s = now_s
        return self._motion.measure(self._inspector.structure, box, since_s)

    def _time_s(self, frame: Frame) -> float:
        """When a frame was taken: a file is read faster or slower than it was filmed."""
        return frame.captured if self._live else frame.index / self._rate

    def _refuse(
        self,
        frame: Frame,
        times: dict[str, float],
        reason: Reason,
        detail: str,
        box: FieldOfView | None = None,
        metrics: QualityMetrics | None = None,
    ) -> Reading:
        # A duplicate says nothing new, not even that the scene has changed.
        if reason is not Reason.DUPLICATE:
            self._smoother.reset()
        return self._reading(frame, times, box, metrics, reason=reason, detail=detail)

    def _reading(
        self,
        frame: Frame,
        times: dict[str, float],
        box: FieldOfView | None = None,
        metrics: QualityMetrics | None = None,
        *,
        verdict: Verdict = Verdict.UNGRADABLE,
        **rest: Any,
    ) -> Reading:
        age_s = time.monotonic() - frame.captured
        captured = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age_s)
        return Reading(
            source=frame.source, frame=frame.index, captured=captured, age_ms=age_s * 1e3, size=frame.size,
            verdict=verdict, field_of_view=box, quality=metrics, latency_ms=times, **rest,
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
