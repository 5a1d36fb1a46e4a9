"""Engines built on this device, kept from run to run: one file each, believed only where its sums and its key hold.

    16 bytes  magic, with the version of this layout
     4 bytes  length of the header, little endian
    32 bytes  SHA-256 of the header
    header    JSON, UTF-8: the key, length and SHA-256 of the plan, what is known of the build
    plan      what the engine's library reads

An engine belongs to one graph, one GPU, one TensorRT and one driver. The sums protect from damage, not from forgery:
the folder is this user's alone, and files of other users are foreign.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medtex_edge.errors import BundleError
from medtex_edge.files import atomic_write
from medtex_edge.strictjson import loads

_MAGIC = b"medtex-engine/1\n"
_SIZES = struct.Struct("<I32s")
_MAX_HEADER = 16 << 20


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on. Two that differ in anything are two engines."""

    graph_sha256: str  # of the ONNX file, hexadecimal
    precision: str  # of the graph
    gpu: str  # as the driver names it
    capability: str  # such as "8.7"
    trt_module: str  # "tensorrt" or "tensorrt_rtx"
    trt_version: str
    driver: str

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        told = json.dumps(asdict(self), sort_keys=True)
        return f"{self.precision}-{hashlib.sha256(told.encode()).hexdigest()[:24]}"

    def fits(self, other: EngineKey) -> bool:
        """Whether both are of the same GPU, TensorRT and driver, whatever the graph."""
        return {**asdict(self), "graph_sha256": "", "precision": ""} == {
            **asdict(other), "graph_sha256": "", "precision": "",
        }  # fmt: skip


class Damaged(Exception):
    """Why a file is not taken for an engine."""


def write_engine(path: Path, key: EngineKey, plan: bytes, report: Mapping[str, Any], why: str = "") -> None:
    """Write one file whole or not at all; `why` it is refused, or "". Raises `StorageError`."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    digest = hashlib.sha256(plan).hexdigest()
    told = {"key": asdict(key), "length": len(plan), "sha256": digest, "created": created, "why": why}
    header = json.dumps({**told, "report": report}, allow_nan=False).encode()
    with atomic_write(path) as file:
        file.write(_MAGIC + _SIZES.pack(len(header), hashlib.sha256(header).digest()) + header)
        file.write(plan)


def read_engine(path: Path, *, whole: bool) -> tuple[dict[str, Any], bytes]:
    """Header and plan (b"" unless `whole`), checked. Raises `Damaged` or `OSError`."""
    # Without O_NONBLOCK, opening a named pipe would wait for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise Damaged("it is not a file of this user")
        if file.read(len(_MAGIC)) != _MAGIC:
            raise Damaged("it does not begin as an engine of this version does")
        sizes = file.read(_SIZES.size)
        if len(sizes) != _SIZES.size:
            raise Damaged("it is cut off")
        length, digest = _SIZES.unpack(sizes)
        content = file.read(length) if length <= _MAX_HEADER else b""
        if hashlib.sha256(content).digest() != digest:
            raise Damaged("its header is damaged")
        header = _header(content)
        if status.st_size != file.tell() + header["length"]:
            raise Damaged(f"expected a plan of {header['length']} bytes, got {status.st_size - file.tell()}")
        plan = file.read() if whole else b""
    if whole and hashlib.sha256(plan).hexdigest() != header["sha256"]:
        raise Damaged("its plan is damaged")
    return header, plan


def _header(content: bytes) -> dict[str, Any]:
    try:
        header = loads(content, "header")
        EngineKey(**header["key"])
        kinds = {"length": int, "sha256": str, "created": str, "why": str, "report": dict}
        known = all(isinstance(header[name], kind) for name, kind in kinds.items())
    except (BundleError, KeyError, TypeError) as error:
        raise Damaged(f"its header is of another version: {error}") from error
    if not known:
        raise Damaged("its header is of another version")
    return dict(header)
