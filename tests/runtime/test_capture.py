from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from pipeline_kit import ScriptedSource

from medtex_edge.errors import SourceError
from medtex_edge.runtime.capture import Capture
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources import reconnect
from medtex_edge.runtime.sources.base import Ended
from medtex_edge.runtime.sources.reconnect import LOST_AFTER_S, ArrivalMonitor


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "_PAUSES_S", (0.01,))
    monkeypatch.setattr(reconnect, "_LONGEST_PAUSE_S", 0.01)


def started(captured: Capture) -> threading.Thread:
    thread = threading.Thread(target=captured.run, daemon=True)
    thread.start()
    return thread


def indices(captured: Capture, work: Callable[[], None] = lambda: None) -> list[int]:
    indices_read = []
    while (frame := captured.next()) is not None:
        indices_read.append(frame.index)
        work()
        captured.release(frame)
    return indices_read


def test_every_frame_of_a_file_counts_however_slow_the_reader() -> None:
    captured = Capture(ScriptedSource(40, live=False), slots=3)
    started(captured)
    assert indices(captured, lambda: time.sleep(0.002)) == list(range(40))
    assert (captured.read, captured.dropped) == (40, 0)


def test_of_a_live_source_the_newest_frame_wins_and_the_rest_are_counted() -> None:
    captured = Capture(ScriptedSource(200, live=True, pause_s=0.001), slots=4, retries=0)
    ages = []

    def run() -> None:
        with pytest.raises(SourceError):
            captured.run()

    threading.Thread(target=run, daemon=True).start()
    indices_read = []
    while (frame := captured.next()) is not None:
        ages.append(time.monotonic() - frame.captured)
        indices_read.append(frame.index)
        time.sleep(0.02)
        captured.release(frame)
    assert indices_read == sorted(set(indices_read))
    assert len(indices_read) < 50
    assert captured.read == 200
    assert captured.dropped == 200 - len(indices_read)
    assert float(np.median(ages)) < 0.02


def test_a_live_source_is_drained_while_every_slot_is_in_use() -> None:
    source = ScriptedSource(1000, live=True, pause_s=0.001)
    captured = Capture(source, slots=2)
    thread = started(captured)
    frames = [captured.next(), captured.next()]
    before = source.index
    time.sleep(0.2)
    assert source.index > before + 20
    assert captured.dropped >= source.index - before - 2
    for frame in frames:
        assert frame is not None
        captured.release(frame)
    fresh = captured.next()
    assert fresh is not None
    assert fresh.index > before + 20
    captured.stop()
    thread.join(2)
    assert not thread.is_alive()


def test_a_live_source_that_stops_is_opened_again_and_goes_on() -> None:
    source = ScriptedSource(30, live=True, pause_s=0.002, stops=(10, 20))
    source.refuse = 2
    captured = Capture(source, retries=5)
    errors: list[SourceError] = []

    def run() -> None:
        try:
            captured.run()
        except SourceError as error:
            errors.append(error)

    threading.Thread(target=run, daemon=True).start()
    indices_read = indices(captured)
    assert max(indices_read) == 29
    assert captured.recoveries == 2
    assert "5 attempts" in errors[0].message
    assert "unplugged" in errors[0].message
    assert errors[0].hint == "plug it in"
    assert captured.failed


def test_the_time_since_the_last_picture_is_known_while_the_source_is_lost() -> None:
    source = ScriptedSource(30, live=True, pause_s=0.002, stops=(5,))
    source.refuse = 100
    captured = Capture(source, retries=60)
    started(captured)
    assert captured.lost_s() == 0
    time.sleep(0.3)
    assert captured.lost_s() > 0.1
    captured.stop()


def test_a_source_that_blocks_is_known_to_be_lost_by_the_clock_before_it_says_so() -> None:
    source = ScriptedSource(10**6, live=True, pause_s=0.005)
    blocked = threading.Event()

    def read(frame: Frame) -> bool:
        if source.index == 20:
            blocked.wait(5)
        return ScriptedSource.read(source, frame)

    source.read = read  # type: ignore[method-assign]
    captured = Capture(source)
    thread = started(captured)
    while source.index < 20:
        time.sleep(0.005)
    began = time.monotonic()
    assert captured.lost_s() == 0
    while captured.lost_s() == 0 and time.monotonic() - began < 3:
        time.sleep(0.005)
    assert 0.8 < time.monotonic() - began < 2
    assert captured.lost_s() >= LOST_AFTER_S
    blocked.set()
    end = time.monotonic() + 3
    while captured.recoveries == 0 and time.monotonic() < end:
        time.sleep(0.005)
    assert (captured.recoveries, captured.lost_s()) == (1, 0)
    captured.stop()
    thread.join(2)


def test_a_source_is_opened_again_for_ever_unless_a_number_of_attempts_is_given() -> None:
    source = ScriptedSource(30, live=True, pause_s=0.002, stops=(5,))
    source.refuse = 40
    captured = Capture(source)
    thread = started(captured)
    end = time.monotonic() + 5
    while source.index < 20 and time.monotonic() < end:
        time.sleep(0.01)
    assert source.reopened > 40
    captured.stop()
    thread.join(2)


def test_a_live_source_that_has_ended_ends_without_an_error() -> None:
    class Pipe(ScriptedSource):
        def reopen(self) -> None:
            raise Ended

    captured = Capture(Pipe(10, live=True, pause_s=0.005))
    started(captured)
    assert max(indices(captured)) == 9
    assert not captured.failed


def paced(intervals: list[float], rate: float = 0.0) -> list[bool]:
    """Which of the frames that come after these intervals are taken as new."""
    now, monitor = 100.0, ArrivalMonitor(rate, 100.0)
    taken = []
    for interval in intervals:
        now += interval
        taken.append(monitor.record(now))
    return taken


def test_what_was_held_back_during_a_loss_is_not_taken_for_new() -> None:
    usual = [0.04] * 20
    assert all(paced(usual))
    # Two seconds of nothing, five frames at once that were held back, then the usual pace, out of step.
    after = paced([*usual, 2.0, 0.001, 0.002, 0.001, 0.001, 0.015, 0.04, 0.04])[20:]
    assert after == [False, False, False, False, False, False, True, True]


def test_a_source_that_comes_back_faster_is_taken_after_half_a_second() -> None:
    after = paced([*[0.1] * 20, 2.0, *[0.01] * 70])[20:]
    assert after.index(True) in range(45, 60)
    assert all(after[after.index(True) :])


def test_a_source_that_comes_back_slower_or_jitters_is_taken_at_once() -> None:
    assert paced([*[0.02] * 20, 2.0, *[0.1] * 5])[20:] == [False, True, True, True, True, True]
    assert all(paced([0.01, 0.08, 0.005, 0.5, 0.001] * 9))


def test_stop_ends_a_reader_and_a_waiting_writer() -> None:
    captured = Capture(ScriptedSource(1000, live=False), slots=2)
    thread = started(captured)
    time.sleep(0.05)
    captured.stop()
    thread.join(2)
    assert not thread.is_alive()
    assert captured.next() is None


def test_slots_are_used_again_and_none_is_made_anew() -> None:
    captured = Capture(ScriptedSource(100, live=False), slots=3)
    started(captured)
    slots = set()
    while (frame := captured.next()) is not None:
        slots.add(id(frame))
        captured.release(frame)
    assert len(slots) <= 3
