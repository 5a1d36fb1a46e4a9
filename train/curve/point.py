"""One training of the less-data curve: `python -m medtex_edge.train.curve.point FOLDER THREADS` (see `jobs`)."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from medtex_edge.errors import MedtexError
from medtex_edge.train.config import TrainConfig, config_from
from medtex_edge.train.data.dataset import DataOptions
from medtex_edge.train.data.subset import Subset
from medtex_edge.train.loop.reporter import Reporter
from medtex_edge.train.models.teacher import FileOptions
from medtex_edge.train.prepare import DataSource
from medtex_edge.train.student_run import train


def main(folder: Path, threads: int) -> int:
    """Run the training of FOLDER/task.json, which writes FOLDER/metrics.json. -> 0, or the exit code of an error."""
    task = json.loads((folder / "task.json").read_text("utf-8"))
    torch.set_num_threads(threads)
    source = DataSource(
        Path(task["data"]),
        DataOptions(**{**task["options"], "accept": frozenset(task["options"]["accept"])}),
        task["referable"],
    )
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in task["teacher_options"].items()}
    try:
        with Reporter(Console(), folder) as reporter:
            train(
                config_from(TrainConfig, task["config"]),
                source,
                task["teacher"],
                folder,
                reporter,
                teacher_options=FileOptions(**options),
                subset=Subset(**task["subset"]),
                whole=False,
            )
    except MedtexError as error:
        print(error.message, error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    return 0


def _end_with_parent() -> None:
    # Not sys.stdin: this thread would hold its lock and block the shutdown of the interpreter.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
