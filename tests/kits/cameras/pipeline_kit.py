"""The pipeline's neighbours for tests: a source that follows a script, a backend of one answer, a sink that records."""

from __future__ import annotations

import time
from types import TracebackType

import bundles
import numpy as np
import numpy.typing as npt

from medtex_edge.errors import BackendError, SourceError, StorageError
from medtex_edge.runtime.backend import Outputs
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.reading import Reading

CONTRACT = bundles.contract()


class ScriptedSource:
    """A source of `frames` numbered frames, one every `pause_s`; `stops` are the frames before which it stops once."""

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

    def __enter__(self) -> ScriptedSource:
        return self

    def __exit__(self, a: type[BaseException] | None, b: BaseException | None, c: TracebackType | None) -> None:
        pass


class FixedBackend:
    """A backend that always gives the same answer, after `seconds`; it fails at call number `fails`."""

    name = "fixed"

    def __init__(self, seconds: float = 0.0, fails: int = -1) -> None:
        self.seconds, self.fails, self.calls = seconds, fails, 0

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        self.calls += 1
        time.sleep(self.seconds)
        if self.calls == self.fails:
            raise BackendError("fixed: the engine is lost")
        return Outputs(np.array([[0.1, 0.2, 0.7]], np.float32), np.full((1, 16, 16), 0.5, np.float32))

    def close(self) -> None:
        pass

    def __enter__(self) -> FixedBackend:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class DiscSource(ScriptedSource):
    """`ScriptedSource` with frames that can be graded, no two alike."""

    pictures = tuple(bundles.disc(120, width=160, seed=seed) for seed in range(7))

    def read(self, frame: Frame) -> bool:
        if not super().read(frame):
            return False
        frame.pixels = self.pictures[frame.index % len(self.pictures)].copy()
        return True


class RecordingSink:
    """A sink that keeps what it gets, after `seconds`; it fails at reading number `fails`."""

    def __init__(self, name: str, seconds: float = 0.0, fails: int = -1) -> None:
        self.name, self.seconds, self.fails = name, seconds, fails
        self.readings: list[Reading] = []
        self.closed = self.abandoned = False

    def write(self, reading: Reading, pixels: npt.NDArray[np.uint8] | None) -> None:
        time.sleep(self.seconds)
        if len(self.readings) == self.fails:
            raise StorageError(f"{self.name}: disk full")
        self.readings.append(reading)

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.abandoned = True
