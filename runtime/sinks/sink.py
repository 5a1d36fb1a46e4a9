"""Where readings and pictures go: a JSONL file, a video file, a folder of photographs.

Files get their name when they are whole: a run that ends well, or by Ctrl-C, renames them into place; one that
breaks (a full disk) leaves none. A sink that fails is closed, said once and counted; the run goes on without it.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import cv2

from medtex_edge.contract import Contract
from medtex_edge.errors import SettingsError, StorageError
from medtex_edge.files import atomic_path, atomic_write, storage
from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading

VIDEO_CODES = {".mp4": "mp4v", ".avi": "MJPG"}
DEFAULT_RATE = 25.0  # frames per second of a video whose source does not say
LONGEST_HOLD_S = 1.0  # a gap in a live source is shown for at most this long
SPARE_BYTES = 16 << 20  # OpenCV's writer does not report a full disk, so writing stops before it is full
_JPEG_QUALITY = 95


class Sink(Protocol):
    """One place to write to. Used by one thread."""

    name: str

    def write(self, reading: Reading, pixels: Pixels | None) -> None:
        """Take one reading, with its drawn picture where there is one. Raises `StorageError`."""

    def close(self) -> None:
        """Finish: what was written gets its name. Raises `StorageError`."""

    def abandon(self) -> None:
        """Leave nothing behind."""


class _Abandoned(Exception):
    """Thrown into an atomic file so that it removes itself."""


class ReadingsFile:
    """One JSON object a line, see docs/reference/readings.md. A pipe or a device is written to as it stands."""

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
        _abandon(self._stack)


class VideoSink:
    """A video of the drawn frames. Frames of a live source are held so that the video plays at true speed."""

    def __init__(self, path: Path, rate: float, *, live: bool) -> None:
        if path.suffix.lower() not in VIDEO_CODES:
            raise SettingsError(f"--save: expected a name that ends in {' or '.join(VIDEO_CODES)}, got {path}")
        self.name = f"video {path}"
        self._path, self._live = path, live
        self._rate = rate if rate > 0 else DEFAULT_RATE
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path))
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._began = 0.0
        self._written = 0

    def write(self, reading: Reading, pixels: Pixels | None) -> None:
        """Append one frame; one of another size than the first is fitted into it. Raises `StorageError`."""
        if pixels is None:
            return
        if self._writer is None:
            self._open(pixels, reading)
        if self._written % 16 == 0:
            self._check_space()
        width, height = self._size
        if pixels.shape[1] // 2 * 2 != width or pixels.shape[0] // 2 * 2 != height:
            pixels = _letterbox(pixels, width, height)
        pixels = pixels[:height, :width]
        for _ in range(self._due(reading)):
            assert self._writer is not None
            self._writer.write(pixels)
            self._written += 1

    def close(self) -> None:
        """Finish the container, look whether it can be read, give it its name; without a frame there is none."""
        if self._writer is None:
            self.abandon()
            return
        self._writer.release()
        self._writer = None
        check = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        frames = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if frames < self._written * 0.98 - 2:
            self.abandon()
            raise StorageError(
                f"cannot write {self._path}: {frames} of {self._written} frames arrived in the file",
                hint="look at the disk's free space",
            )
        with storage(self._path):
            self._stack.close()

    def abandon(self) -> None:
        """Remove the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        _abandon(self._stack)

    def _open(self, pixels: Pixels, reading: Reading) -> None:
        # Codecs halve the colour's resolution, so sides are even.
        self._size = (pixels.shape[1] // 2 * 2, pixels.shape[0] // 2 * 2)
        code = VIDEO_CODES[self._path.suffix.lower()]
        fourcc = cv2.VideoWriter.fourcc(*code)
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, self._rate, self._size)
        if not writer.isOpened():
            raise StorageError(
                f"cannot write {self._path}: this OpenCV has no encoder {code} for "
                f"{self._size[0]} x {self._size[1]} pixels",
                hint="try the other of .mp4 and .avi, or a folder",
            )
        self._writer = writer
        self._began = reading.captured.timestamp()

    def _due(self, reading: Reading) -> int:
        """How often this frame is written: once, or as often as the clock asks for a live source."""
        if not self._live:
            return 1
        due = round((reading.captured.timestamp() - self._began) * self._rate) + 1 - self._written
        longest = round(LONGEST_HOLD_S * self._rate)
        if due > longest:  # a gap: the video goes on from here instead of standing still
            self._began += (due - longest) / self._rate
            due = longest
        return max(due, 0)

    def _check_space(self) -> None:
        with storage(self._path):
            disk = os.statvfs(self._temporary.parent)
            if disk.f_bavail * disk.f_frsize < SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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


def _letterbox(pixels: Pixels, width: int, height: int) -> Pixels:
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    right, below = width - size[0], height - size[1]
    return cv2.copyMakeBorder(  # type: ignore[no-any-return]
        small, below // 2, below - below // 2, right // 2, right - right // 2, cv2.BORDER_CONSTANT
    )


def _abandon(stack: ExitStack) -> None:
    # Closing flushes once more, and fails once more where the disk is full.
    with suppress(_Abandoned, StorageError, OSError):
        stack.__exit__(_Abandoned, _Abandoned(), None)
