from __future__ import annotations

import threading
import time
from typing import Any

import bundles
import numpy as np
import numpy.typing as npt
import pytest
from pipeline_kit import CONTRACT, DiscSource, FixedBackend, RecordingSink, ScriptedSource

from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError, SourceError
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.reading import Reading, Reason, Verdict
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.summary import Histogram, Summary


def run(source: ScriptedSource, backend: FixedBackend, contract: Contract = CONTRACT, **how: Any) -> Summary:
    summary = Summary(source.name, "tiny.medtex", "", backend.name)
    scorer = Scorer(backend, contract, live=source.live, stream=source.stream)
    tick = how.pop("tick", lambda pipeline: None)
    pipeline = Pipeline(source, scorer, contract, summary, **how)
    before = threading.active_count()
    try:
        pipeline.run(tick)
    finally:
        assert threading.active_count() == before, "a thread is left"
    return summary


def test_every_frame_of_a_file_is_read_scored_and_drawn_in_order_by_slow_sinks_too() -> None:
    readings, pictures = RecordingSink("readings"), RecordingSink("pictures", seconds=0.005)
    summary = run(DiscSource(40, live=False), FixedBackend(), reading_sinks=[readings], picture_sinks=[pictures])
    assert [reading.frame for reading in readings.readings] == list(range(40))
    assert [reading.frame for reading in pictures.readings] == list(range(40))
    assert (summary.read, summary.scored, summary.dropped) == (40, 40, 0)
    assert readings.closed
    assert pictures.closed


def test_a_slow_sink_does_not_slow_the_inference_of_a_live_source() -> None:
    source, backend, slow = (
        DiscSource(10**6, live=True, pause_s=0.005),
        FixedBackend(),
        RecordingSink("slow", seconds=0.3),
    )
    summary = run(source, backend, picture_sinks=[slow], max_frames=60)
    assert summary.scored == 60
    assert summary.seconds < 3
    assert summary.sinks[0]["lost"] >= 60 - len(slow.readings) - 1
    assert summary.stages["age"].percentile(0.95) < 100


def test_a_sink_that_fails_is_said_once_and_the_others_go_on() -> None:
    messages: list[str] = []
    broken, whole = RecordingSink("broken", fails=3), RecordingSink("whole")
    summary = run(DiscSource(10, live=False), FixedBackend(), reading_sinks=[broken, whole], on_message=messages.append)
    assert len(whole.readings) == 10
    assert messages == ["broken: disk full; the run goes on without it"]
    assert [sink["lost"] for sink in summary.sinks] == [7, 0]
    assert broken.abandoned
    assert not broken.closed


def test_a_backend_that_fails_ends_the_run_with_its_error_and_whole_files() -> None:
    kept = RecordingSink("readings")
    with pytest.raises(BackendError, match="engine is lost"):
        run(
            DiscSource(10**6, live=False),
            FixedBackend(fails=5),
            reading_sinks=[kept],
            picture_sinks=[RecordingSink("p", 0.01)],
        )
    assert len(kept.readings) == 4
    assert kept.closed


def test_a_source_that_is_lost_for_good_ends_the_run_after_its_last_frame() -> None:
    kept = RecordingSink("readings")
    with pytest.raises(SourceError, match="stopped giving frames"):
        run(DiscSource(5, live=True, pause_s=0.03), FixedBackend(), reading_sinks=[kept], retries=0)
    assert len(kept.readings) == 5


def test_inference_and_drawing_overlap() -> None:
    pictures = RecordingSink("pictures", seconds=0.03)
    summary = run(DiscSource(20, live=False), FixedBackend(seconds=0.03), picture_sinks=[pictures])
    assert summary.seconds < 20 * 0.055


def test_a_disk_that_hangs_does_not_freeze_what_is_seen() -> None:
    class Eyes:
        offered = 0

        def offer(self, pixels: npt.NDArray[np.uint8], reading: Reading, captured: float, rate: float | None) -> None:
            self.offered += 1

    eyes, hanging = Eyes(), RecordingSink("hanging", seconds=1.0)
    source = DiscSource(10**6, live=True, pause_s=0.01)
    summary = run(source, FixedBackend(), picture_sinks=[hanging], viewers=[eyes], max_frames=50)
    assert summary.scored == 50
    assert eyes.offered > 40
    assert summary.sinks[0]["lost"] >= 50 - len(hanging.readings) - 2


def test_viewers_see_frames_before_anything_is_drawn_into_them() -> None:
    class Eyes:
        def __init__(self) -> None:
            self.frames: list[npt.NDArray[np.uint8]] = []

        def offer(self, pixels: npt.NDArray[np.uint8], *_: object) -> None:
            self.frames.append(pixels.copy())

    eyes = Eyes()
    run(DiscSource(7, live=False), FixedBackend(), picture_sinks=[RecordingSink("pictures")], viewers=[eyes])
    assert all(np.array_equal(shown, given) for shown, given in zip(eyes.frames, DiscSource.pictures, strict=True))


def test_a_camera_that_does_not_deliver_bgr_is_shown_and_drawn_in_colour_and_its_own_frame_is_left_alone() -> None:
    class Grey(DiscSource):
        frames = tuple(np.ascontiguousarray(picture[..., 1]) for picture in DiscSource.pictures)

        def read(self, frame: Frame) -> bool:
            if not super().read(frame):
                return False
            frame.pixels, frame.layout = self.frames[frame.index % 7], "grey"
            return True

    class Eyes(RecordingSink):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.frames: list[npt.NDArray[np.uint8]] = []

        def offer(self, pixels: npt.NDArray[np.uint8], *_: object) -> None:
            self.frames.append(pixels.copy())

        def write(self, reading: Reading, pixels: npt.NDArray[np.uint8] | None) -> None:
            assert pixels is not None
            self.frames.append(pixels.copy())

    before = [frame.copy() for frame in Grey.frames]
    shown_to, saved = Eyes("shown"), Eyes("saved")
    run(Grey(7, live=False), FixedBackend(), picture_sinks=[saved], viewers=[shown_to])
    for given, shown, drawn in zip(before, shown_to.frames, saved.frames, strict=True):
        assert np.array_equal(shown, given[..., None].repeat(3, 2))
        assert (drawn != shown).any()
    assert all(np.array_equal(*pair) for pair in zip(before, Grey.frames, strict=True))


def test_a_user_who_closes_the_window_ends_the_run() -> None:
    class Closed:
        shown = 0

        def offer(self, pixels: npt.NDArray[np.uint8], *_: object) -> None:
            self.shown += 1

        def poll(self, why: str = "") -> bool:
            time.sleep(0.01)
            return self.shown < 5

    summary = run(DiscSource(10**6, live=True, pause_s=0.002), FixedBackend(), screen=Closed())
    assert summary.ended == "closed by the user"


def test_photographs_stay_in_the_window_until_it_is_closed() -> None:
    class Patient:
        offered = 0

        def offer(self, pixels: npt.NDArray[np.uint8], *_: object) -> None:
            pass

        def poll(self, why: str = "") -> bool:
            time.sleep(0.01)
            self.offered += 1
            return self.offered < 30

    source = DiscSource(2, live=False)
    source.stream = False
    screen = Patient()
    assert run(source, FixedBackend(), screen=screen).ended == "closed by the user"
    assert screen.offered == 30


def test_an_interrupt_in_the_main_thread_leaves_no_thread_behind() -> None:
    def interrupt(pipeline: Pipeline) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(DiscSource(10**6, live=True, pause_s=0.002), FixedBackend(), tick=interrupt)


def scored(frame: Frame, **how: bool) -> Reading:
    return Scorer(FixedBackend(), CONTRACT, **how).score(frame)


def test_a_live_frame_that_is_too_old_is_stale_and_not_scored() -> None:
    backend = FixedBackend()
    frame = Frame(pixels=bundles.disc(120), captured=time.monotonic() - 1.5)
    reading = Scorer(backend, CONTRACT, live=True, stream=True).score(frame)
    assert (reading.verdict, reading.reason, backend.calls) == (Verdict.UNGRADABLE, Reason.STALE, 0)
    assert reading.age_ms > 1400
    assert scored(frame, live=False).reason is None


def test_a_live_frame_that_grew_too_old_while_it_was_scored_is_stale_too() -> None:
    backend = FixedBackend()
    scorer = Scorer(backend, CONTRACT, live=True)

    def score(age_s: float = 0.0) -> Reading:
        frame = Frame(pixels=bundles.disc(120, width=160), captured=time.monotonic() - age_s)
        return scorer.score(frame)

    assert score().reason is None
    backend.seconds = 0.3  # the machine was busy with something else
    late = score(age_s=0.9)
    assert late.reason is Reason.STALE
    assert late.probabilities is None
    slow = Scorer(FixedBackend(seconds=0.3), CONTRACT, live=True)  # a board that takes as long for every frame
    frame = Frame(pixels=bundles.disc(120, width=160), captured=time.monotonic() - 0.9)
    assert slow.score(frame).reason is None


def test_the_verdict_follows_the_threshold_of_the_contract() -> None:
    frame = Frame(pixels=bundles.disc(120), captured=time.monotonic())
    reading = scored(frame)
    assert reading.verdict is Verdict.REFERABLE
    assert reading.referable_probability == pytest.approx(0.7)
    assert reading.label == "severe"
    assert reading.field_of_view is not None


def test_memory_of_the_counts_does_not_grow_and_percentiles_are_right() -> None:
    histogram = Histogram()
    values = np.random.default_rng(0).lognormal(1, 1, 20_000)
    for value in values:
        histogram.add(float(value))
    for share in (0.5, 0.95, 0.99):
        assert histogram.percentile(share) == pytest.approx(float(np.quantile(values, share)), rel=0.03)
    assert histogram.to_json()["count"] == 20_000
    assert Histogram().percentile(0.5) == 0
