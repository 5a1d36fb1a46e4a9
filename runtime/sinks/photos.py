"""The sink of drawn photographs: a folder with one picture per photograph."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from medtex_edge.errors import SettingsError
from medtex_edge.files import atomic_write, storage
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading

_JPEG_QUALITY = 95


class PhotoFolder:
    """One drawn picture per photograph, under the photograph's own name; JPEG stays JPEG, all else becomes PNG."""

    def __init__(self, folder: Path, sources: tuple[Path, ...]) -> None:
        self.name = f"photographs {folder}"
        self._folder = folder
        # With photographs of several folders, only the path below what they share tells them apart.
        self._root = Path(os.path.commonpath([path.absolute().parent for path in sources]))
        self._names: set[Path] = set()
        present = {path.resolve() for path in sources}
        clash = next((path for path in sources if self._target(path).resolve() in present), None)
        if clash is not None:
            raise SettingsError(f"--save: {self._target(clash)} is one of the photographs", hint="name another folder")
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, reading: Reading, pixels: Pixels | None) -> None:
        """Write one picture. Raises `StorageError`."""
        if pixels is None:
            return
        target = self._target(Path(reading.source))
        if target in self._names:  # a.tif and a.png
            target = target.with_name(f"{Path(reading.source).name}{target.suffix}")
        self._names.add(target)
        _, data = cv2.imencode(target.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        with atomic_write(target) as file:
            file.write(data.tobytes())

    def close(self) -> None:
        """Every picture was finished when it was written."""

    def abandon(self) -> None:
        """Pictures that were written whole stay."""

    def _target(self, source: Path) -> Path:
        suffix = source.suffix.lower()
        suffix = suffix if suffix in (".jpg", ".jpeg", ".png") else ".png"
        return self._folder / source.absolute().relative_to(self._root).with_suffix(suffix)
