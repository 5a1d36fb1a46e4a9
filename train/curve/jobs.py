"""Trainings in parallel, one process each. Finished ones are not repeated; a failed one reports the end of its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtex_edge.errors import DataError, SettingsError
from medtex_edge.files import storage, write_json

TAIL = 15  # lines of a failed training's log that are shown


@dataclass(frozen=True)
class Job:
    """One training: its folder, and the task of `medtex_edge.train.curve.point` as JSON values."""

    folder: Path
    task: dict[str, Any] = field(compare=False)

    @property
    def done(self) -> bool:
        """Whether the training is finished. Raises `SettingsError` where the folder holds another training."""
        try:
            before = json.loads((self.folder / "task.json").read_text("utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self.folder / 'task.json'}: {error}", hint="delete that folder") from error
        if before != json.loads(json.dumps(self.task)):
            raise SettingsError(
                f"{self.folder} was trained with other settings, photographs or another teacher",
                hint="choose another --out, repeat the former command, or delete that folder",
            )
        return (self.folder / "metrics.json").exists()

    def result(self) -> dict[str, Any]:
        """The metrics of the finished training."""
        metrics: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text("utf-8"))
        return metrics

    def start(self, threads: int) -> subprocess.Popen[bytes]:
        """Start the process, which resumes from a checkpoint and writes its output to `log.txt`."""
        with storage(self.folder, "make"):
            self.folder.mkdir(parents=True, exist_ok=True)
            log = (self.folder / "log.txt").open("ab")
        with log:
            write_json(self.folder / "task.json", self.task)
            call = [sys.executable, "-m", "medtex_edge.train.curve.point", str(self.folder), str(threads)]
            # Set before torch is imported, since it creates its thread pools once.
            environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
            # The pipe closes when this process ends, in whatever manner, and the training ends with the pipe.
            return subprocess.Popen(call, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)


def run_jobs(todo: list[Job], *, jobs: int, threads: int, on_progress: Callable[[int, int], None]) -> None:
    """Run the unfinished trainings, `jobs` at a time, each with an equal part of `threads`.

    on_progress(finished, all): called at the start and after each training. The first failure stops the others, which
    keep their checkpoints; so does an interruption. Raises `DataError`.
    """
    waiting = deque(job for job in todo if not job.done)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    on_progress(len(todo) - len(waiting), len(todo))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                job = waiting.popleft()
                running[job] = job.start(max(threads // jobs, 1))
            time.sleep(0.1)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                code = running.pop(job).returncode
                if code != 0 or not job.done:
                    raise DataError(
                        f"the training in {job.folder} ended with status {code}:\n{_tail(job.folder / 'log.txt')}",
                        hint="correct the cause and repeat the command: finished trainings are kept",
                    )
                on_progress(len(todo) - len(waiting) - len(running), len(todo))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-TAIL:])
