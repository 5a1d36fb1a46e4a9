"""A queue and a thread in front of sinks, so that a slow or broken one never holds inference up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import cv2

from medtex_edge.errors import StorageError
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.sinks.base import Sink

Item = TypeVar("Item")


class FaultTolerantSink:
    """A sink with its counts. When it fails it is abandoned, `on_error` hears of it once, the rest counts as lost."""

    def __init__(self, sink: Sink, on_error: Callable[[StorageError], None]) -> None:
        self._sink = sink
        self._on_error = on_error
        self.name = sink.name
        self.written = 0
        self.lost = 0
        self.error: StorageError | None = None

    def write(self, reading: Reading, pixels: Pixels | None) -> None:
        """Pass one reading on, or count it as lost."""
        if self.error is None:
            try:
                self._sink.write(reading, pixels)
            except StorageError as error:
                self._fail(error)
            except cv2.error as error:
                self._fail(StorageError(f"{self.name}: OpenCV cannot write it: {error.err}"))
            else:
                self.written += 1
                return
        self.lost += 1

    def close(self) -> None:
        """Finish the sink."""
        if self.error is None:
            try:
                self._sink.close()
            except StorageError as error:
                self.lost, self.written = self.lost + self.written, 0
                self._fail(error)

    def to_json(self) -> dict[str, str | int | None]:
        """What came of it."""
        error = self.error.message if self.error else None
        return {"name": self.name, "written": self.written, "lost": self.lost, "error": error}

    def _fail(self, error: StorageError) -> None:
        self.error = error
        self._sink.abandon()
        self._on_error(error)


class SinkQueue(Generic[Item]):
    """A bounded queue. `run` is the thread's body: it hands every item to `consume` until `finish` and all is done."""

    def __init__(self, consume: Callable[[Item], None], *, capacity: int, wait: bool) -> None:
        self._consume = consume
        self._capacity = capacity
        self._wait = wait
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._dead = False
        self.lost = 0  # items that found no room

    def put(self, item: Item) -> bool:
        """Queue one item. When full: wait for room (files, where every frame counts), else False at once."""
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: len(self._items) < self._capacity or self._dead)
            if self._dead or len(self._items) >= self._capacity:
                self.lost += 1
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self) -> None:
        """No more will come; `run` returns when what is queued has been consumed."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def run(self) -> None:
        """Consume until finished."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._items or self._finished)
                    if not self._items:
                        return
                    item = self._items[0]
                self._consume(item)
                with self._changed:
                    # Left in the queue while it is worked on, so that the capacity counts it.
                    self._items.popleft()
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._dead = True
                self._changed.notify_all()
