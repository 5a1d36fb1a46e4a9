"""The loop: capture, inference, showing, drawing and readings in a thread each, the window and signals in the main one.

    source -> [capture] -> slots -> [inference] -> readings -> [readings] -> JSONL, lines
                                         |-------> slots ----> [showing]  -> window, page
                                                                   |-----> [drawing] -> video, pictures -> free slots

A thread that fails ends the run; its error comes out of `Pipeline.run`, after everything is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from medtex_edge.contract import Contract
from medtex_edge.errors import StorageError
from medtex_edge.runtime.capture import SLOTS, Capture
from medtex_edge.runtime.display.overlay import Overlay
from medtex_edge.runtime.display.pixels import to_bgr
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.sinks.base import Sink
from medtex_edge.runtime.sinks.queue import FaultTolerantSink, SinkQueue
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.sources.reconnect import RETRIES
from medtex_edge.runtime.summary import Summary

if TYPE_CHECKING:
    from medtex_edge.runtime.display.screens import Screen, Viewer

_READINGS_QUEUE = 512  # readings are small: a disk may pause for seconds
_RATE_WINDOW_S = 1.0
_TICK_S = 0.05


class Pipeline:
    """One run of one source through one backend."""

    def __init__(
        self,
        source: FrameSource,
        scorer: Scorer,
        contract: Contract,
        summary: Summary,
        *,
        reading_sinks: Sequence[Sink] = (),
        picture_sinks: Sequence[Sink] = (),
        screen: Screen | None = None,
        viewers: Sequence[Viewer] = (),
        on_message: Callable[[str], None] = lambda line: None,
        max_frames: int | None = None,
        retries: int | None = RETRIES,
    ) -> None:
        self._source = source
        self._scorer = scorer
        self._summary = summary
        self._max_frames = max_frames
        self._capture = Capture(source, slots=SLOTS, retries=retries)
        self._stopped = threading.Event()
        self._rate = _Rate()
        self.last: Reading | None = None

        def fail(error: StorageError) -> None:
            on_message(f"{error.message}; the run goes on without it")

        self._reading_sinks = [FaultTolerantSink(sink, fail) for sink in reading_sinks]
        self._picture_sinks = [FaultTolerantSink(sink, fail) for sink in picture_sinks]
        # Of a live source a picture that finds no room is lost and counted; in a file every frame counts.
        wait = not source.live
        self._readings_queue: SinkQueue[Reading] = SinkQueue(self._write, capacity=_READINGS_QUEUE, wait=wait)
        self._pictures_queue: SinkQueue[tuple[Frame, Reading]] = SinkQueue(self._paint, capacity=2, wait=wait)
        # A thread before it, so that a disk that hangs does not freeze what is seen.
        self._display_queue: SinkQueue[tuple[Frame, Reading]] = SinkQueue(self._show, capacity=2, wait=wait)
        self._overlay = Overlay(contract)
        # What is shown, and what is drawn into, where a camera does not deliver BGR: one for each thread.
        self._display_canvas: Pixels | None = None
        self._drawing_canvas: Pixels | None = None
        self._screen = screen
        self._viewers = (*viewers, screen) if screen is not None else tuple(viewers)

    def run(self, tick: Callable[[Pipeline], None] = lambda pipeline: None) -> Summary:
        """Run until the source ends or `stop` is called; `tick` is called some twenty times a second.

        Raises what the source (`SourceError`, `ImageError`) or the backend (`BackendError`) raised, with the
        summary and the sinks finished all the same.
        """
        began = time.monotonic()
        with ThreadPoolExecutor(5, thread_name_prefix="medtex-edge") as pool:
            queues = [pool.submit(each) for each in (self._readings_queue.run, self._display_queue.run, self._draw)]
            stages = [pool.submit(self._capture.run), pool.submit(self._infer)]
            try:
                self._watch(stages[1], queues, tick)
            finally:
                # Also when the main thread fails: no thread may be left waiting, or leaving the block hangs.
                self._stopped.set()
                self._capture.stop()
                self._finish(stages, queues)
        self._close(began)
        errors = [future.exception() for future in (*stages, *queues)]
        first = next((error for error in errors if error is not None), None)
        if first is not None:
            self._summary.ended = "failed"
            raise first
        return self._summary

    def stop(self, why: str) -> None:
        """End the run soon; safe to call from a signal handler."""
        if not self._stopped.is_set():
            self._summary.ended = why
            self._stopped.set()

    @property
    def frames_per_second(self) -> float:
        """Readings per second over the last second."""
        return self._rate.value

    @property
    def lost_s(self) -> float:
        """For how long the source has been lost; 0 while it runs."""
        return self._capture.lost_s()

    def _watch(self, inference: Future[None], queues: Sequence[Future[None]], tick: Callable[[Pipeline], None]) -> None:
        # Photographs would be gone before they were seen: window and page keep the last one until the user ends it.
        hold = bool(self._viewers) and not self._source.stream
        while not self._stopped.is_set() and not any(queue.done() for queue in queues):
            if inference.done() and (not hold or self._capture.failed or inference.exception()):
                return
            if self._screen is not None:
                lost = self._capture.lost_s() > 0
                why = f"{self._source.name} is being opened again" if lost else ""
                if not self._screen.poll(why):
                    self.stop("closed by the user")
            else:
                self._stopped.wait(_TICK_S)
            tick(self)

    def _finish(self, stages: Sequence[Future[None]], queues: Sequence[Future[None]]) -> None:
        for future in stages:
            future.exception()  # waits
        # In the order in which a frame passes them, each waited for.
        finishes = (self._readings_queue.finish, self._display_queue.finish, self._pictures_queue.finish)
        for finish, future in zip(finishes, queues, strict=True):
            finish()
            future.exception()

    def _close(self, began: float) -> None:
        summary = self._summary
        summary.read, summary.dropped = self._capture.read, self._capture.dropped
        summary.recoveries = self._capture.recoveries
        for sinks, lost in (
            (self._reading_sinks, self._readings_queue.lost),
            (self._picture_sinks, self._pictures_queue.lost + self._display_queue.lost),
        ):
            for sink in sinks:
                sink.lost += lost
                sink.close()
                summary.sinks.append(sink.to_json())
        summary.notes.extend(self._source.notes)
        summary.seconds = time.monotonic() - began

    def _infer(self) -> None:
        """The inference thread's body."""
        queue = self._display_queue if self._viewers else self._pictures_queue if self._picture_sinks else None
        count = 0
        try:
            while not self._stopped.is_set():
                frame = self._capture.next()
                if frame is None:
                    break
                reading = self._scorer.score(frame)
                self._summary.add(reading)
                self._rate.add()
                self.last = reading
                self._readings_queue.put(reading)
                if queue is None or frame.pixels is None or not queue.put((frame, reading)):
                    self._capture.release(frame)
                count += 1
                if self._max_frames is not None and count >= self._max_frames:
                    self.stop("max frames")
        finally:
            # A reader that waits for a free slot must not wait for ever when this thread has failed.
            self._capture.stop()

    def _write(self, reading: Reading) -> None:
        for sink in self._reading_sinks:
            sink.write(reading, None)

    def _show(self, item: tuple[Frame, Reading]) -> None:
        frame, reading = item
        assert frame.pixels is not None
        handed_on = False
        try:
            pixels = frame.pixels
            if frame.layout != "bgr":
                pixels = self._display_canvas = self._converted(frame, self._display_canvas)
            for viewer in self._viewers:
                viewer.offer(pixels, reading, frame.captured, self._shown_rate)
            handed_on = bool(self._picture_sinks) and self._pictures_queue.put(item)
        finally:
            if not handed_on:
                self._capture.release(frame)

    def _draw(self) -> None:
        """The drawing thread's body."""
        if self._picture_sinks:
            self._overlay.warm()  # fonts belong to a thread
        self._pictures_queue.run()

    def _paint(self, item: tuple[Frame, Reading]) -> None:
        frame, reading = item
        assert frame.pixels is not None
        try:
            pixels = frame.pixels
            if frame.layout != "bgr":
                pixels = self._drawing_canvas = self._converted(frame, self._drawing_canvas)
            began = time.perf_counter()
            self._overlay.draw(pixels, reading, self._shown_rate)
            drawn = time.perf_counter()
            self._summary.time("draw", (drawn - began) * 1e3)
            for sink in self._picture_sinks:
                sink.write(reading, pixels)
            self._summary.time("write", (time.perf_counter() - drawn) * 1e3)
        finally:
            self._capture.release(frame)

    def _converted(self, frame: Frame, canvas: Pixels | None) -> Pixels:
        assert frame.pixels is not None
        began = time.perf_counter()
        canvas = to_bgr(frame.pixels, frame.layout, canvas)
        self._summary.time("convert", (time.perf_counter() - began) * 1e3)
        return canvas

    @property
    def _shown_rate(self) -> float | None:
        return self._rate.value if self._source.stream else None


class _Rate:
    """Events per second over the last second or so."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._count = 0
        self.value = 0.0

    def add(self) -> None:
        self._count += 1
        elapsed = time.monotonic() - self._began
        if elapsed >= _RATE_WINDOW_S or self.value == 0.0:
            self.value = self._count / max(elapsed, 1e-3)
        if elapsed >= _RATE_WINDOW_S:
            self._began, self._count = time.monotonic(), 0
