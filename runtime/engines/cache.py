"""Engines that were built on this device, kept from run to run: whole or not there, one build at a time.

One file for each engine; engines whose answers were wrong are kept apart and never given out. A file is used only
where its checksums and its key are right:

    16 bytes  magic, with the version of this layout
     4 bytes  length of the header, little endian
    32 bytes  SHA-256 of the header
    header    JSON, UTF-8: the key, length and SHA-256 of the plan, what is known of the build
    plan      what the engine's library reads

An engine belongs to one graph, one GPU, one TensorRT and one driver. The checksums protect from damage, not from
forgery: the folder is this user's alone, and files of other users are refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from medtex_edge.errors import BundleError, StorageError
from medtex_edge.files import atomic_write, storage
from medtex_edge.runtime.engines.key import EngineKey
from medtex_edge.strictjson import loads

_MAGIC = b"medtex-engine/1\n"
_SIZES = struct.Struct("<I32s")
_MAX_HEADER = 16 << 20
_READY, _REFUSED = ".engine", ".refused"
_PATIENCE_S = 0.2


@dataclass(frozen=True)
class Entry:
    """One file of the cache. `state`: "ready", "refused" (see `why`) or "damaged" (see `why`; `key` is None)."""

    path: Path
    state: str
    size: int  # bytes of the file
    key: EngineKey | None = None
    created: str = ""  # ISO 8601, UTC
    why: str = ""
    report: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dump`."""
        return {**asdict(self), "path": str(self.path)}


class Cache:
    """A folder of engines; default: $XDG_CACHE_HOME/medtex-edge/engines.

    `on_message` is a callback for each file that had to be removed. Writing raises `StorageError` where the disk
    refuses, and then leaves no file. Processes may share a folder.
    """

    def __init__(self, folder: Path | None = None, on_message: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder or default_folder()
        self._on_message = on_message

    def get(self, key: EngineKey) -> bytes | None:
        """The plan, or None where there is none; a file that is damaged or foreign is removed and reported."""
        path = self._path(key, _READY)
        try:
            header, plan = read_engine(path, whole=True)
            if header["key"] != asdict(key):
                raise DamagedEngine("it was built for another graph, GPU, TensorRT or driver")
        except FileNotFoundError:
            return None
        except (DamagedEngine, OSError) as error:
            self._on_message(f"the engine {path} cannot be used: {error}; removed")
            self._remove(path)
            return None
        return plan

    def put(self, key: EngineKey, plan: bytes, report: Mapping[str, Any]) -> Path:
        """Keep a plan that was proved; `report` is plain JSON. It replaces a refused one."""
        path = self._write(key, plan, report, _READY)
        self._remove(self._path(key, _REFUSED))
        return path

    def refuse(self, key: EngineKey, plan: bytes, why: str, report: Mapping[str, Any] | None = None) -> Path:
        """Put a plan that gives wrong answers aside: it is kept for inspection, and `get` never returns it."""
        self._remove(self._path(key, _READY))
        return self._write(key, plan, report or {}, _REFUSED, why)

    def refused(self, key: EngineKey) -> str:
        """Why an engine of that key was put aside, or ''."""
        with suppress(DamagedEngine, OSError):
            header, _ = read_engine(self._path(key, _REFUSED), whole=False)
            return f"{header['why']} ({header['created']})" if header["key"] == asdict(key) else ""
        return ""

    def remove(self, key: EngineKey) -> None:
        """Forget that engine, and that one was refused."""
        self._remove(self._path(key, _READY))
        self._remove(self._path(key, _REFUSED))

    def list(self) -> Sequence[Entry]:
        """What is in the folder, newest first. Plans are not read: `get` checks their checksums."""
        paths = [path for path in self.folder.glob("[!.]*") if path.suffix in (_READY, _REFUSED)]
        return sorted(map(_entry, paths), key=lambda entry: (entry.created, entry.path.name), reverse=True)

    def prune(self, keep: Callable[[Entry], bool] = lambda entry: False) -> Sequence[Entry]:
        """Remove every engine for which `keep` is false, and what killed builds left. Returns the removed ones."""
        self.sweep()
        entries = self.list()
        gone = [entry for entry in entries if not keep(entry)]
        timings = {self.timing_path(entry.key) for entry in entries if entry.key and entry not in gone}
        for path in (*(entry.path for entry in gone), *(set(self.folder.glob("*.timing")) - timings)):
            self._remove(path)
        return gone

    def timing_path(self, key: EngineKey) -> Path:
        """Where TensorRT may keep what it measured on this GPU, which makes the next build faster."""
        text = json.dumps([key.gpu, key.capability, key.trt_module, key.trt_version, key.driver])
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.timing"

    @contextmanager
    def building(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """One build at a time in this folder, whatever the process; `waiting` is called while another one runs.

        The lock is the kernel's: it goes with its process, however that ended.
        """
        with self._lock_file() as file:
            while not _locked(file):
                waiting()
                time.sleep(_PATIENCE_S)
            self._remove_temporaries()
            yield

    def sweep(self) -> None:
        """Remove what a killed build left, unless one is running."""
        if self.folder.is_dir():
            with self._lock_file() as file:
                if _locked(file):
                    self._remove_temporaries()

    def _lock_file(self) -> IO[bytes]:
        with storage(self.folder, "make"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with storage(self.folder / ".lock"):
            return (self.folder / ".lock").open("ab")

    def _remove(self, path: Path) -> None:
        with storage(path, "remove"):
            path.unlink(missing_ok=True)

    def _remove_temporaries(self) -> None:
        for path in self.folder.glob(".?*.*"):
            with suppress(OSError):
                path.unlink()

    def _path(self, key: EngineKey, suffix: str) -> Path:
        return self.folder / f"{key.name}{suffix}"

    def _write(self, key: EngineKey, plan: bytes, report: Mapping[str, Any], suffix: str, why: str = "") -> Path:
        path = self._path(key, suffix)
        try:
            with storage(self.folder, "make"):
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_engine(path, key, plan, report, why)
        except StorageError as error:
            hint = f"{error.hint}; `medtex-edge engine prune` removes engines that this device cannot use"
            raise StorageError(error.message, hint=hint) from error
        return path


def default_folder() -> Path:
    """$XDG_CACHE_HOME/medtex-edge/engines; a relative one is ignored, as the XDG specification asks."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "medtex-edge" / "engines"


def _entry(path: Path) -> Entry:
    size = 0
    try:
        size = path.lstat().st_size
        header, _ = read_engine(path, whole=False)
        key = EngineKey(**header["key"])
        if path.stem != key.name:
            raise DamagedEngine("its name is another engine's")
    except (DamagedEngine, OSError) as error:
        return Entry(path, "damaged", size, why=str(error))
    state = "refused" if path.suffix == _REFUSED else "ready"
    return Entry(path, state, size, key, header["created"], header["why"], header["report"])


def _locked(file: IO[bytes]) -> bool:
    with storage(Path(file.name), "lock"):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class DamagedEngine(Exception):
    """The reason why a file cannot be used as an engine."""


def write_engine(path: Path, key: EngineKey, plan: bytes, report: Mapping[str, Any], why: str = "") -> None:
    """Write one file whole or not at all; `why` it is refused, or "". Raises `StorageError`."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    digest = hashlib.sha256(plan).hexdigest()
    fields = {"key": asdict(key), "length": len(plan), "sha256": digest, "created": created, "why": why}
    header = json.dumps({**fields, "report": report}, allow_nan=False).encode()
    with atomic_write(path) as file:
        file.write(_MAGIC + _SIZES.pack(len(header), hashlib.sha256(header).digest()) + header)
        file.write(plan)


def read_engine(path: Path, *, whole: bool) -> tuple[dict[str, Any], bytes]:
    """Header and plan (b"" unless `whole`), checked. Raises `DamagedEngine` or `OSError`."""
    # Without O_NONBLOCK, opening a named pipe would wait for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise DamagedEngine("it is not a file of this user")
        if file.read(len(_MAGIC)) != _MAGIC:
            raise DamagedEngine("it does not begin as an engine of this version does")
        sizes = file.read(_SIZES.size)
        if len(sizes) != _SIZES.size:
            raise DamagedEngine("it is cut off")
        length, digest = _SIZES.unpack(sizes)
        content = file.read(length) if length <= _MAX_HEADER else b""
        if hashlib.sha256(content).digest() != digest:
            raise DamagedEngine("its header is damaged")
        header = _header(content)
        if status.st_size != file.tell() + header["length"]:
            raise DamagedEngine(f"expected a plan of {header['length']} bytes, got {status.st_size - file.tell()}")
        plan = file.read() if whole else b""
    if whole and hashlib.sha256(plan).hexdigest() != header["sha256"]:
        raise DamagedEngine("its plan is damaged")
    return header, plan


def _header(content: bytes) -> dict[str, Any]:
    try:
        header = loads(content, "header")
        EngineKey(**header["key"])
        kinds = {"length": int, "sha256": str, "created": str, "why": str, "report": dict}
        known = all(isinstance(header[name], kind) for name, kind in kinds.items())
    except (BundleError, KeyError, TypeError) as error:
        raise DamagedEngine(f"its header is of another version: {error}") from error
    if not known:
        raise DamagedEngine("its header is of another version")
    return dict(header)
