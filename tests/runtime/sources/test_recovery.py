"""Pull the plug: a real stream is killed, stopped and resumed, restarted with another size, and damaged on the way.

The server is a process of its own with ffmpeg beneath it, and every frame says when it was made. The quick form, always
in the suite, does each of these once per kind of stream. The long form does twenty rounds, holds each recovery to two
seconds and the memory to be flat, and prints its figures:

    MEDTEX_EDGE_LONG=1 python -m pytest -s tests/runtime/sources/test_recovery.py
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import bundles
import cv2
import pytest
import stream_server
from pipeline_kit import CONTRACT, FixedBackend

from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.sources.open import open_source
from medtex_edge.runtime.summary import Summary

LONG = os.environ.get("MEDTEX_EDGE_LONG", "") not in ("", "0")
ROUNDS = 20 if LONG else 4
RECOVERED_S = 2.0 if LONG else 8.0  # the quick form asks whether, not how fast: it may share its cores
NOTICED_S = 1.0 if LONG else 3.0
OLDEST_S = 1.0 + 0.25  # a scored frame's true age: what is stale by its arrival, and the way to us
RATE = 20.0
SIZES = ((320, 240), (400, 300))

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg, which encodes the stream, is missing")


class Server:
    """`stream_server` in a process group of its own, always on the same port."""

    def __init__(self, kind: str, picture: Path) -> None:
        self.kind, self.picture, self.port = kind, picture, 0
        self.size = SIZES[0]
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.kind == 'mjpeg' else 'rtsp'}://127.0.0.1:{self.port}/live"

    def start(self) -> None:
        command = [sys.executable, stream_server.__file__, self.kind, str(self.port), str(self.picture)]
        command += [str(self.size[0]), str(self.size[1]), str(RATE)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def signal(self, number: signal.Signals, *, all_of_it: bool = True) -> None:
        assert self.process is not None
        (os.killpg if all_of_it else os.kill)(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@dataclass(frozen=True)
class Scored:
    at: float  # seconds of time.monotonic(), as all of them
    made: float
    stamp: tuple[int, int]  # milliseconds, and the number since the server's start: every frame's own
    size: tuple[int, int]


class Witness(Scorer):
    """Scores, and reads off each frame that was scored when it had been made."""

    def __init__(self) -> None:
        super().__init__(FixedBackend(), CONTRACT, live=True, stream=True)
        self.scored: list[Scored] = []
        self.torn = 0  # frames of two halves

    def score(self, frame: Frame) -> Reading:
        reading = super().score(frame)
        if reading.probabilities is not None and frame.pixels is not None:
            found = stream_server.read_stamp(frame.pixels)
            self.torn += found is None
            if found is not None:
                now = time.monotonic()
                made = now - ((int(now * 1e3) - found[1]) & 0xFFFFFFFF) / 1e3
                self.scored.append(Scored(now, made, found[::-1], frame.pixels.shape[1::-1]))  # type: ignore[arg-type]
        return reading


def kill(server: Server) -> float:
    server.kill()
    time.sleep(1.1)
    server.start()
    return time.monotonic()


def stop(server: Server) -> float:
    server.signal(signal.SIGSTOP)
    time.sleep(1.5)
    server.signal(signal.SIGCONT)
    return time.monotonic()


def resize(server: Server) -> float:
    server.size = SIZES[SIZES.index(server.size) - 1]
    return kill(server)


def damage(server: Server) -> float:
    server.signal(signal.SIGUSR1, all_of_it=False)
    time.sleep(stream_server.DAMAGED_S)
    return time.monotonic()


FAULTS: tuple[Callable[[Server], float], ...] = (kill, stop, resize, damage)


@contextmanager
def running(server: Server) -> Iterator[tuple[Pipeline, Witness]]:
    source = open_source(server.url)
    witness = Witness()
    pipeline = Pipeline(source, witness, CONTRACT, Summary(source.name, "", "", "fixed"))
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    try:
        yield pipeline, witness
    finally:
        pipeline.stop("test over")
        thread.join(15)
        source.close()
        assert not thread.is_alive()


def wait(what: Callable[[], bool], seconds: float, why: str) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.005)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_stream_that_fails_in_any_way_is_read_on_and_only_new_frames_are_scored(kind: str, tmp_path: Path) -> None:
    picture = tmp_path / "eye.png"
    cv2.imwrite(str(picture), bundles.disc(480, width=640))
    server = Server(kind, picture)
    recoveries: list[float] = []
    noticed: list[float] = []
    memory: list[float] = []
    try:
        server.start()
        wait(lambda: _serves(server), 10, "the server does not serve")
        with running(server) as (pipeline, witness):
            wait(lambda: len(witness.scored) > 10, 10, "no frame is scored")
            for number in range(ROUNDS):
                recoveries.append(_round(FAULTS[number % len(FAULTS)], server, pipeline, witness, noticed))
                memory.append(resident_mib())
            stamps = [each.stamp for each in witness.scored]
            oldest = max(each.at - each.made for each in witness.scored)
    finally:
        server.kill()
    worst = {fault.__name__: max(recoveries[first :: len(FAULTS)]) for first, fault in enumerate(FAULTS)}
    print(
        f"\n{kind}: {ROUNDS} rounds, {len(stamps)} frames scored, recovered in {statistics.median(recoveries):.2f} s "
        f"(median), {max(recoveries):.2f} s (longest), noticed after {max(noticed):.2f} s at most, "
        f"oldest frame scored {oldest * 1e3:.0f} ms, memory {memory[0]:.1f} -> {memory[-1]:.1f} MiB; "
        + ", ".join(f"{name} {longest:.2f} s" for name, longest in worst.items())
    )
    assert witness.torn == 0
    assert stamps == sorted(set(stamps)), "a frame was scored after a newer one, or twice"
    assert oldest < OLDEST_S
    assert max(recoveries) < RECOVERED_S
    assert max(noticed) < NOTICED_S
    if LONG:
        assert memory[-1] - memory[len(memory) // 4] < 4


def _round(
    fault: Callable[[Server], float], server: Server, pipeline: Pipeline, witness: Witness, noticed: list[float]
) -> float:
    """Seconds from the moment when the stream was back to the first frame made since then that was scored."""
    watch = threading.Thread(target=_notice, args=(pipeline, witness, noticed))
    if fault is not damage:
        watch.start()
    back = fault(server)
    count = len(witness.scored)
    wait(lambda: any(each.made > back for each in witness.scored[count:]), 20, f"{fault.__name__}: not read on")
    first = next(each for each in witness.scored[count:] if each.made > back)
    if fault is not damage:
        watch.join()
    wait(lambda: len(witness.scored) > count + 12, 10, f"{fault.__name__}: few frames")
    assert witness.scored[-1].size == server.size
    assert pipeline.lost_s == 0
    return first.at - back


def _serves(server: Server) -> bool:
    found = cv2.VideoCapture(server.url, cv2.CAP_FFMPEG)
    try:
        return bool(found.isOpened() and found.grab())
    finally:
        found.release()


def _notice(pipeline: Pipeline, witness: Witness, noticed: list[float]) -> None:
    """How long after the last frame it is said that there are none."""
    wait(lambda: pipeline.lost_s > 0, 10, "the loss is not noticed")
    noticed.append(time.monotonic() - witness.scored[-1].at)
