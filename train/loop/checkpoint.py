"""What a training leaves behind after every epoch, whole or not at all, to go on from with any number of processes."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from medtex_edge.errors import DataError
from medtex_edge.files import atomic_path
from medtex_edge.train.compute.processes import group, on_main

State = dict[str, Any]


def write_checkpoint(path: Path, state: State) -> None:
    """The main process writes; the others hold the same weights and leave it to that one."""
    if group().main:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)


def read_checkpoint(path: Path, key: str) -> State | None:
    """The state that `path` holds, on the CPU; None where there is none. Only the main process needs the file.

    Raises `DataError` where it is damaged, or of a training with another `key` (settings or photographs).
    """
    return on_main(lambda: _read(path, key))


def _read(path: Path, key: str) -> State | None:
    if not path.is_file():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise DataError(f"cannot read the checkpoint {path}: {error}", hint="delete it to start anew") from error
    if state.get("key") != key:
        raise DataError(
            f"{path.parent} holds an unfinished run with other settings or photographs",
            hint="choose another --out, repeat that run's own command to resume it, or delete the folder",
        )
    return state
