from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
import pytest

from medtex_edge.errors import SourceError
from medtex_edge.runtime import capture
from medtex_edge.runtime.capture import Capture
from medtex_edge.runtime.frame import Frame


class Script:
    """A source that does what it is told: `read` gives numbered frames until `stops_at`, then fails."""

    name = "script"
    stream = True
    rate = 0.0
    count = None

    def __init__(self, frames: int, *, live: bool, pause_s: float = 0.0, stops: tuple[int, ...] = ()) -> None:
        self.notes: list[str] = []
        self.live, self._frames, self._pause_s, self._stops = live, frames, pause_s, set(stops)
        self.index = 0
        self.reopened = 0
        self.refuse = 0  # how many attempts to open again fail

    def read(self, frame: Frame) -> bool:
        time.sleep(self._pause_s)
        if self.index >= self._frames or self.index in self._stops:
            return False
        frame.pixels = np.full((2, 2, 3), self.index % 256, np.uint8)
        frame.index, frame.captured, frame.error = self.index, time.monotonic(), ""
        self.index += 1
        return True

    def skip(self) -> bool:
        time.sleep(self._pause_s)
        if self.index >= self._frames or self.index in self._stops:
            return False
        self.index += 1
        return True

    def reopen(self) -> None:
        self.reopened += 1
        if self.refuse > 0 or self.index >= self._frames:
            self.refuse -= 1
            raise SourceError("script: unplugged", hint="plug it in")
        self._stops.discard(self.index)

    def close(self) -> None:
        pass

    def __enter__(self) -> Script:
        return self

    def __exit__(self, a: type[BaseException] | None, b: BaseException | None, c: TracebackType | None) -> None:
        pass


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_PAUSES", (0.01,))
    monkeypatch.setattr(capture, "_LONGEST_PAUSE", 0.01)


def started(captured: Capture) -> threading.Thread:
    thread = threading.Thread(target=captured.run, daemon=True)
    thread.start()
    return thread


def indices(captured: Capture, work: Callable[[], None] = lambda: None) -> list[int]:
    seen = []
    while (frame := captured.next()) is not None:
        seen.append(frame.index)
        work()
        captured.release(frame)
    return seen


def test_every_frame_of_a_file_counts_however_slow_the_reader() -> None:
    captured = Capture(Script(40, live=False), slots=3)
    started(captured)
    assert indices(captured, lambda: time.sleep(0.002)) == list(range(40))
    assert (captured.read, captured.dropped) == (40, 0)


def test_of_a_live_source_the_newest_frame_wins_and_the_rest_are_counted() -> None:
    captured = Capture(Script(200, live=True, pause_s=0.001), slots=4, retries=0)
    ages = []

    def run() -> None:
        with pytest.raises(SourceError):
            captured.run()

    threading.Thread(target=run, daemon=True).start()
    seen = []
    while (frame := captured.next()) is not None:
        ages.append(time.monotonic() - frame.captured)
        seen.append(frame.index)
        time.sleep(0.02)
        captured.release(frame)
    assert seen == sorted(set(seen))
    assert len(seen) < 50
    assert captured.read == 200
    assert captured.dropped == 200 - len(seen)
    assert float(np.median(ages)) < 0.02


def test_a_live_source_is_drained_while_every_slot_is_in_use() -> None:
    source = Script(1000, live=True, pause_s=0.001)
    captured = Capture(source, slots=2)
    thread = started(captured)
    held = [captured.next(), captured.next()]
    before = source.index
    time.sleep(0.2)
    assert source.index > before + 20
    assert captured.dropped >= source.index - before - 2
    for frame in held:
        assert frame is not None
        captured.release(frame)
    fresh = captured.next()
    assert fresh is not None
    assert fresh.index > before + 20
    captured.stop()
    thread.join(2)
    assert not thread.is_alive()


def test_a_live_source_that_stops_is_opened_again_and_goes_on() -> None:
    source = Script(30, live=True, pause_s=0.002, stops=(10, 20))
    source.refuse = 2
    captured = Capture(source, retries=5)
    errors: list[SourceError] = []

    def run() -> None:
        try:
            captured.run()
        except SourceError as error:
            errors.append(error)

    threading.Thread(target=run, daemon=True).start()
    seen = indices(captured)
    assert max(seen) == 29
    assert captured.recoveries == 2
    assert "5 attempts" in errors[0].message
    assert "unplugged" in errors[0].message
    assert errors[0].hint == "plug it in"
    assert captured.failed


def test_the_time_since_the_last_picture_is_known_while_the_source_is_lost() -> None:
    source = Script(30, live=True, pause_s=0.002, stops=(5,))
    source.refuse = 100
    captured = Capture(source, retries=60)
    started(captured)
    assert captured.lost_s() == 0
    time.sleep(0.3)
    assert captured.lost_s() > 0.1
    captured.stop()


def test_stop_ends_a_reader_and_a_waiting_writer() -> None:
    captured = Capture(Script(1000, live=False), slots=2)
    thread = started(captured)
    time.sleep(0.05)
    captured.stop()
    thread.join(2)
    assert not thread.is_alive()
    assert captured.next() is None


def test_slots_are_used_again_and_none_is_made_anew() -> None:
    captured = Capture(Script(100, live=False), slots=3)
    started(captured)
    slots = set()
    while (frame := captured.next()) is not None:
        slots.add(id(frame))
        captured.release(frame)
    assert len(slots) <= 3
