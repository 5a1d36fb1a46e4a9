"""An engine is built in a process of its own: it takes minutes and gigabytes, and may die without taking a run along.

The process writes a JSON object a line: {"step": ..., "done": 0..1} while it works. What it says otherwise is kept
for the case that it fails.
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
    """What builds, proves and keeps the engine of one graph."""
    build = [sys.executable, "-m", "medtex_edge", "engine", "build", str(bundle.resolve())]
    return [*build, "--precision", precision, "--json", "--parent", str(os.getpid())]


def follow_parent(parent: int) -> None:
    """Called by the process that builds: end when `parent` ends, and leave the cores to it."""
    os.nice(_NICE)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


class BuildProcess:
    """Runs once: `run` in one thread, `stop` from any. `told` hears the step and how much of it is done."""

    def __init__(self, command: Sequence[str], told: Callable[[str, float], None]) -> None:
        self._command = command
        self._told = told
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def run(self) -> bool:
        """Until the process has ended: True, or False where it was stopped. Raises `BackendError` where it fails."""
        with self._lock:
            if self._stopped.is_set():
                return False
            self._process = process = self._start()
        assert process.stdout is not None
        with process:
            said = self._listen(process.stdout)
        if self._stopped.is_set():
            return False
        if process.returncode != 0:
            raise _failure(process.returncode, said)
        return True

    def stop(self) -> None:
        """End the process, if there is one."""
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
        said: deque[str] = deque(maxlen=_LAST_LINES)
        for line in iter(lambda: output.readline(_LONGEST), ""):
            try:
                news = json.loads(line)
                self._told(str(news["step"]), min(max(float(news["done"]), 0.0), 1.0))
            except (ValueError, KeyError, TypeError):
                said.append(line.strip())
        return said


def _failure(code: int, said: deque[str]) -> BackendError:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = "the system may have been short of memory: look at dmesg" if -code == signal.SIGKILL else ""
        return BackendError(f"the engine's build was ended by {name}", hint=hint)
    words = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in said if line.startswith("hint: ")]
    last = words[-1] if words else next((line for line in reversed(said) if line), f"exit code {code}")
    what = "kept" if code == StorageError.exit_code else "built"
    return BackendError(f"the engine could not be {what}: {last}", hint=hints[-1] if hints else "")
