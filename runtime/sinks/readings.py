"""The sink of readings: a JSONL file, or a pipe or device that exists."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from medtex_edge.contract import Contract
from medtex_edge.files import atomic_write, storage
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.sinks.base import discard


class ReadingsFile:
    """One JSON object a line, see docs/reference/readings.md. A pipe or a device is written to directly."""

    def __init__(self, path: Path, contract: Contract, bundle_sha256: str) -> None:
        self.name = f"readings {path}"
        self._path, self._contract, self._sha256 = path, contract, bundle_sha256
        self._stack = ExitStack()
        special = path.exists() and not path.is_file() and not path.is_dir()
        with storage(path):
            self._file: IO[Any] = self._stack.enter_context(
                path.open("w", encoding="utf-8") if special else atomic_write(path, "w")
            )

    def write(self, reading: Reading, pixels: Pixels | None = None) -> None:
        """Append one line and hand it to the system, so that a full disk shows at once."""
        line = json.dumps(reading.to_json(self._contract, self._sha256), allow_nan=False)
        with storage(self._path):
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Give the file its name."""
        with storage(self._path):
            self._stack.close()

    def abandon(self) -> None:
        """Remove the file."""
        discard(self._stack)
