"""The log and the progress of TensorRT's builder, and how a build is stopped.

TensorRT calls these objects from C++, out of several threads, where an exception that left them would be printed and
lost. So one that is raised is kept, the build cancelled, and the exception raised again by `Watch.check`; Ctrl-C too,
which Python sees first in here, since the build itself holds no interpreter.
"""

from __future__ import annotations

import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

Progress = Callable[[str, float], None]  # the phase under way, by TensorRT's name, and the fraction done in 0..1

_ERROR, _WARNING = 1, 2  # ILogger.Severity; 0 is an internal error
_KEPT = 20  # messages; a build can repeat one for each layer
_STEP = 1 / 500  # a finer movement than this no bar shows
# Where in TensorRT's own sources an error arose.
_PLACES = (r"\s*\(?In \S+ at \S+:\d+\s*", r"^\[?\S+\.(cpp|h|hpp)(::\S+)?:{1,2}\d+\]?:?\s*", r"^I\w+::\w+: ")
# The error of each build on a machine without a GPU, whatever else is wrong.
_NO_DRIVER = re.compile(r"cudaError (35|100)\b|CUDA driver version is insufficient")


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Watch:
    """Follows one build. `progress` is called out of the builder's threads, by one of them at a time; its fraction
    never falls. What it raises stops the build."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.errors: deque[str] = deque(maxlen=_KEPT)
        self.warnings: deque[str] = deque(maxlen=_KEPT)
        self._progress = progress
        self._raised: BaseException | None = None
        self._lock = threading.RLock()
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self._reported = -1.0

    def check(self) -> None:
        """Raise what a callback raised."""
        if self._raised is not None:
            raise self._raised

    def reason(self) -> str:
        """The first error in one line, without its place in TensorRT's sources; '' where none was logged."""
        own = [text for text in self.errors if not _NO_DRIVER.search(text)]
        return plain_message((own or [*self.errors, ""])[0])

    def log_line(self, severity: int, message: str) -> None:
        """A line of the log."""
        with self._kept():
            if severity <= _WARNING:
                (self.errors if severity <= _ERROR else self.warnings).append(message.strip())

    def started(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps began, within another or as the outermost."""
        with self._kept():
            self._phases[name] = _Phase(parent, max(steps, 1))
            self._report(name)

    def stepped(self, name: str, step: int) -> bool:
        """Step `step` (from 0) of a phase is done; False asks the builder to stop."""
        with self._kept():
            if phase := self._phases.get(name):
                phase.done = min(step + 1, phase.steps)
                self._report(name)
        return self._raised is None

    def finished(self, name: str) -> None:
        """A phase ended, perhaps before its last step."""
        with self._kept():
            self._phases.pop(name, None)

    def _report(self, name: str) -> None:
        phase, fraction = self._phases[name], 0.0
        inner: _Phase | None = phase
        while inner is not None:
            fraction = min((inner.done + fraction) / inner.steps, 1.0)
            inner = self._phases.get(inner.parent) if inner.parent else None
        self._fraction = max(self._fraction, fraction)
        if self._progress is not None and self._raised is None and self._fraction >= self._reported + _STEP:
            self._reported = self._fraction
            self._progress(name, self._fraction)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Keep what the handler of Ctrl-C raises: it could raise between the entry of a callback and its first line."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return

        def handler(number: int, frame: FrameType | None) -> None:
            with self._kept():
                before(number, frame)

        signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except BaseException as error:
            self._raised = self._raised or error


_loggers: dict[type, Any] = {}
_one_build = threading.Lock()
_listening: list[Watch] = []


@contextmanager
def listening(trt: ModuleType, watch: Watch) -> Iterator[Any]:
    """Yield an ILogger that passes its lines to `watch` and prints nothing. One build at a time has it, others wait.

    At the end it raises what a callback raised meanwhile.

    TensorRT keeps one logger for the process, the first it is given, for as long as anything that was made with it
    lives, and a traceback can keep a builder alive. So this one is never replaced, only its receiver.
    """
    kind: Any = trt.ILogger
    with _one_build:
        if kind not in _loggers:
            _loggers[kind] = _logger(kind)
        _listening.append(watch)
        try:
            with watch.interruptible():
                yield _loggers[kind]
        finally:
            _listening.clear()
    watch.check()


def _logger(kind: Any) -> Any:
    class Logger(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            kind.__init__(self)  # pybind11 wants it by name

        def log(self, severity: Any, message: str) -> None:
            for watch in _listening:
                watch.log_line(int(severity), message)

    return Logger()


def monitor(trt: ModuleType, watch: Watch) -> Any:
    """An IProgressMonitor that reports to `watch`; it has to live as long as the configuration that it is given to."""
    kind: Any = trt.IProgressMonitor

    class Monitor(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            kind.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.started(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.stepped(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finished(phase_name)

    return Monitor()


def plain_message(message: str) -> str:
    """One line of an error of TensorRT's, without places in its sources and the text of its assertions."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and not _NO_DRIVER.search(line)]
    text = next((line for line in lines if not line.startswith("Invalid Node")), "".join(lines[:1]))
    for place in _PLACES:
        text = re.sub(place, " ", text).strip()
    if quoted := re.search(r'&& "(.+)"$', text):
        return quoted[1]
    text = re.sub(r"^Assertion failed: .+?: (?=[A-Z])", "", text)
    text = re.sub(r"^Error Code \d+: [\w ]+ \((.*?)\.?\)?$", r"\1", text)
    return text.rstrip(". ")[:300]
