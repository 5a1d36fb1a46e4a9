"""Files appear whole or not at all: write to a temporary name, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import StorageError

# The folders of a path that starts at a root, a home or a drive: they name users, projects and patients.
_FOLDERS = re.compile(r"(?<![\w./\\~-])(?:file://|~[\w.-]*|[A-Za-z]:)?[/\\](?:[^\s'\"/\\:;,=]+[/\\])+")


@contextmanager
def storage(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space or choose another place",
            errno.EDQUOT: "the quota is used up: free some space or choose another place",
            errno.EACCES: "choose a place that you may write to",
            errno.EROFS: "the file system is read-only: choose another place",
            errno.ENOTDIR: "a part of the path is a file: choose another place",
            errno.EISDIR: "a folder of that name is in the way: choose another name",
        }
        hint = hints.get(error.errno or 0, "choose another place or check the disk")
        raise StorageError(f"cannot {doing} {path}: {error.strerror or error}", hint=hint) from error


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success fsync it and rename it into place, else remove it.

    The temporary name keeps the suffix, since writers such as OpenCV's choose their format by it.
    Raises `StorageError` where the disk refuses.
    """
    path = Path(path)
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
    temporary = Path(name)
    try:
        with storage(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            # mkstemp makes 0600: a bundle is meant to be copied and read by others.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            _fsync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path | str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that replaces `path` when the block ends well. `mode` is 'wb' or 'w' (UTF-8)."""
    with atomic_path(path) as temporary:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused, since JSON has none."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def without_folders(value: Any) -> Any:
    """The same JSON value with the folders taken from every absolute path in its texts; numpy numbers made plain."""
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, Mapping):
        return {str(name): without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    # Some file systems (FUSE, network) refuse to fsync a folder; the rename has happened all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
