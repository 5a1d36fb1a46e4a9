"""The build of an engine in a process of its own: it takes minutes and gigabytes, and its crash must not end a run.

The process prints its progress as one JSON object a line, {"step": ..., "done": 0..1}. Its other lines are kept: they
are the error message where it fails.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from medtex_edge.errors import BackendError, StorageError

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, linux/prctl.h
_NICE = 5  # the run needs the cores more
_LONGEST = 1 << 16  # characters of a line
_LAST_LINES = 30


def command(bundle: Path, precision: str) -> list[str]:
    """The command line that builds, proves and keeps the engine of one graph of `bundle`."""
    build = [sys.executable, "-m", "medtex_edge", "engine", "build", str(bundle.resolve())]
    return [*build, "--precision", precision, "--json", "--parent", str(os.getpid())]


def follow_parent(parent: int) -> None:
    """End this process when the process `parent` ends, and lower its priority. The building process calls it."""
    os.nice(_NICE)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call above
        os._exit(1)


class BuildProcess:
    """A process that runs once: `run` is called in one thread, `stop` in any.

    `on_progress` is a callback for the step under way and the fraction done in 0..1.
    """

    def __init__(self, command: Sequence[str], on_progress: Callable[[str, float], None]) -> None:
        self._command = command
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def run(self) -> bool:
        """Wait for the process: True when it has succeeded, False where it was stopped. Raises `BackendError`."""
        with self._lock:
            if self._stopped.is_set():
                return False
            self._process = process = self._start()
        assert process.stdout is not None
        with process:
            lines = self._listen(process.stdout)
        if self._stopped.is_set():
            return False
        if process.returncode != 0:
            raise _failure(process.returncode, lines)
        return True

    def stop(self) -> None:
        """End the process where it runs; a later `run` starts none."""
        with self._lock:
            self._stopped.set()
            if self._process is not None:
                self._process.kill()

    def _start(self) -> subprocess.Popen[str]:
        try:
            # A session of its own: Ctrl-C in the terminal is for the run, which then ends this process itself.
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BackendError(f"the engine's build cannot be started: {error.strerror}") from error

    def _listen(self, output: IO[str]) -> deque[str]:
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        for line in iter(lambda: output.readline(_LONGEST), ""):
            try:
                event = json.loads(line)
                self._on_progress(str(event["step"]), min(max(float(event["done"]), 0.0), 1.0))
            except (ValueError, KeyError, TypeError):
                lines.append(line.strip())
        return lines


def _failure(code: int, lines: deque[str]) -> BackendError:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = "the system may have been short of memory: see dmesg" if -code == signal.SIGKILL else ""
        return BackendError(f"the engine's build was ended by {name}", hint=hint)
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    last = errors[-1] if errors else next((line for line in reversed(lines) if line), f"exit code {code}")
    what = "kept" if code == StorageError.exit_code else "built"
    return BackendError(f"the engine could not be {what}: {last}", hint=hints[-1] if hints else "")
