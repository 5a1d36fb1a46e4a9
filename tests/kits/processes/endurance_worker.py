"""One process of tests/runtime/test_endurance.py: a long run through the real pipeline; prints JSON."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import numpy.typing as npt

from medtex_edge.runtime.backend import Outputs
from medtex_edge.runtime.display import text
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.sinks.readings import ReadingsFile
from medtex_edge.runtime.sinks.video import VideoSink
from medtex_edge.runtime.summary import Summary

AGREED = bundles.contract()
DRAWN = 10  # every so many-th drawn frame is also encoded


class Instant:
    """A backend that answers at once, with arrays of its own for each frame, as an engine does."""

    name = "instant"
    saliency = np.random.default_rng(0).random((1, AGREED.saliency_height, AGREED.saliency_width), np.float32)

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        return Outputs(np.array([[0.1, 0.2, 0.7]], np.float32), self.saliency.copy())

    def close(self) -> None:
        pass

    def __enter__(self) -> Instant:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Counted:
    """A sink that only counts."""

    name = "counted"
    count = 0

    def write(self, reading: Reading, pixels: npt.NDArray[np.uint8] | None) -> None:
        self.count += 1

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class Sometimes(VideoSink):
    """A video of every tenth picture."""

    count = 0

    def write(self, reading: Reading, pixels: npt.NDArray[np.uint8] | None) -> None:
        self.count += 1
        if self.count % DRAWN == 0:
            super().write(reading, pixels)


class Watch:
    """Memory and threads of the process at each call of `sample`, which waits until no frame is in the pipeline."""

    def __init__(self, counted: Counted, *, trace: bool) -> None:
        self._counted = counted
        self._trace = trace
        self.resident_kb: list[int] = []
        self.blocks: list[int] = []  # that Python's allocator has given out
        self._snapshots: list[tracemalloc.Snapshot] = []

    def sample(self) -> None:
        before = -1
        while before != self._counted.count:
            before = self._counted.count
            time.sleep(0.2)
        text.width.cache_clear()  # its cache of lines is bounded, and not yet full at the first sample
        gc.collect()
        self.resident_kb.append(resident_kb())
        self.blocks.append(sys.getallocatedblocks())
        if self._trace:
            self._snapshots.append(tracemalloc.take_snapshot())

    def growth(self) -> dict[str, int]:
        """Bytes more at the end, by the line that allocated them; without this file's and the tracer's own."""
        if not self._trace:
            return {}
        first, last = (
            snapshot.filter_traces([tracemalloc.Filter(False, name) for name in (tracemalloc.__file__, __file__)])
            for snapshot in self._snapshots
        )
        found = last.compare_to(first, "lineno")
        return {str(each.traceback): each.size_diff for each in found if each.size_diff > 0}


class Generator:
    """A source of frames that can be graded, and of a few of each kind that cannot. A live one never ends by itself."""

    name = "generator"
    stream = True
    rate = 30.0
    count = None

    def __init__(self, frames: int, *, live: bool = False, warm: int = 0, watch: Watch | None = None) -> None:
        self.notes: list[str] = []
        self.live = live
        self.done = False
        self._frames, self._warm, self._watch = frames, warm, watch
        random = np.random.default_rng(0)
        disc = bundles.disc(120, width=160).astype(np.int16)
        self._pictures = [np.clip(disc + random.integers(-2, 3, disc.shape), 0, 255).astype(np.uint8) for _ in range(7)]
        self._index = 0

    def read(self, frame: Frame) -> bool:
        index = self._index
        if self._watch is not None and not self.done and index in (self._warm, self._frames):
            self._watch.sample()
        self.done = index >= self._frames
        if self.done and not self.live:
            return False
        if frame.buffer is None:
            frame.buffer = np.empty_like(self._pictures[0])
        frame.pixels, frame.error = frame.buffer, ""
        if index % 50 == 10:
            frame.pixels, frame.error = None, "torn"
        elif index % 50 == 20:
            frame.pixels[:] = 0
        else:
            turn = index - (index % 50 == 30)  # once a round the frame before comes again
            np.copyto(frame.pixels, self._pictures[turn % len(self._pictures)])
        frame.source, frame.index, frame.captured = self.name, index, time.monotonic()
        self._index += 1
        if self.live:
            time.sleep(0.001)  # a camera waits for its next frame; so others come to theirs
        return True

    def skip(self) -> bool:
        time.sleep(0.001)  # not counted, so that no sample is skipped
        return True

    def reopen(self) -> None:
        raise AssertionError("nothing was lost")

    def close(self) -> None:
        pass

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def resident_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def native_threads() -> int:
    """The fewest of half a second: one that has been joined is still listed for a moment."""
    counts = []
    for _ in range(10):
        time.sleep(0.05)
        counts.append(len(list(Path("/proc/self/task").iterdir())))
    return min(counts)


def run(source: Generator, folder: Path, counted: Counted) -> Summary:
    """Every stage and sink that a device has but the window; the overlay is drawn into each frame."""
    backend = Instant()
    summary = Summary(source.name, "tiny.medtex", "", backend.name)
    scorer = Scorer(backend, AGREED, live=source.live, stream=source.stream)
    readings = ReadingsFile(folder / "readings.jsonl", AGREED, "")
    video = Sometimes(folder / "overlay.mp4", source.rate, live=source.live)
    pipeline = Pipeline(
        source, scorer, AGREED, summary, reading_sinks=[readings, counted], picture_sinks=[video],
        retries=0, on_message=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip

    def tick(running: Pipeline) -> None:
        if source.done:
            running.stop("done")

    return pipeline.run(tick)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--warm", type=int, required=True, help="frames after which nothing may grow")
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    run(Generator(100), arguments.folder, Counted())  # libraries start their own threads at first use
    threads = native_threads()
    if arguments.trace:
        tracemalloc.start()
    counted = Counted()
    watch = Watch(counted, trace=arguments.trace)
    began = time.monotonic()
    summary = run(
        Generator(arguments.frames, live=arguments.live, warm=arguments.warm, watch=watch), arguments.folder, counted
    )
    seconds = time.monotonic() - began
    found: dict[str, Any] = {
        "frames": summary.to_json()["frames"], "readings": counted.count, "seconds": round(seconds, 1),
        "sinks": summary.sinks, "resident_kb": watch.resident_kb, "growth": watch.growth(), "blocks": watch.blocks,
        "python_threads": threading.active_count(), "native_threads_more": native_threads() - threads,
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
