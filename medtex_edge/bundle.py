"""Read, write and verify a `.medtex` file: docs/reference/bundle.md describes its format.

A device reads this file from a stick or a network, so nothing in it is trusted: sizes are limited before
they are read, every checksum is verified, no member is pickled or compressed, and no name can lead out of the file.
The checksums protect from damage, not from forgery: whoever can write a bundle can write its checksums.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medtex_edge.golden_vectors import MAX_VECTORS_BYTES, Golden, pack, unpack

from . import archive, strictjson
from .contract import Contract
from .errors import BundleError
from .files import atomic_write

__all__ = ["CARD", "EXTRAS", "PRECISIONS", "Bundle", "Golden", "write_bundle"]

SCHEMA = 1
PRECISIONS = ("fp32", "fp16", "int8")
CARD = "model_card.md"
EXTRAS = (CARD, "evaluation.json", "report.html", "LICENSE.txt", "NOTICE.txt")
_MIB = 1 << 20
_MODEL_BYTES = 512 * _MIB
_TOTAL_BYTES = 1024 * _MIB
# Every name that may be in a bundle, in the order of the file, with the bytes that it may have.
_LIMITS: dict[str, int] = {
    "manifest.json": 64 << 10,
    "contract.json": _MIB,
    "report.json": 4 * _MIB,
    "golden.npz": MAX_VECTORS_BYTES,
    **{f"model.{precision}.onnx": _MODEL_BYTES for precision in PRECISIONS},
    **dict.fromkeys(EXTRAS, 32 * _MIB),
    CARD: _MIB,  # a text for people: a larger one is no card
}
_REQUIRED = ("manifest.json", "contract.json", "report.json", "golden.npz", "model.fp32.onnx")
_AGAIN = "copy the bundle again, or export it again"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified `.medtex` file. Get one from `Bundle.open`; `model` reads a graph when it is called."""

    path: Path
    contract: Contract
    precisions: tuple[str, ...]  # of PRECISIONS, in that order; "fp32" is always there
    golden: Golden
    report: dict[str, Any]  # metrics, parity, provenance: free in form, JSON in kind
    manifest: dict[str, str]  # member name -> sha256 in hexadecimal, of every member but the manifest
    members: dict[str, archive.Member]  # member name -> where it lies and its size, the manifest included

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read `path` and check everything that can be checked without running the model.

        Raises `BundleError`, one line with what was expected and what was found: not a bundle, truncated,
        damaged, members too many, too large or unknown, wrong checksums, a contract or golden vectors
        out of range or at odds with each other. That the graph fits the contract is checked when a backend
        opens it.
        """
        path = Path(path)
        with _opened(path) as (file, length):
            if length > _TOTAL_BYTES:
                raise BundleError(f"expected at most {_TOTAL_BYTES} bytes, got {length}")
            members = archive.scan(file, length, _LIMITS)
            missing = [name for name in _REQUIRED if name not in members]
            if missing:
                raise BundleError(f"expected a member {missing[0]}, got none")
            manifest = _read_manifest(archive.read(file, members["manifest.json"]), members)
            for name, digest in manifest.items():
                _check_sum(file, members[name], digest)
            contract = _read_contract(archive.read(file, members["contract.json"]))
            report = strictjson.loads(archive.read(file, members["report.json"]), "report.json")
            if not isinstance(report, dict):
                raise BundleError(f"report.json: expected an object, got {type(report).__name__}")
            golden = unpack(archive.read(file, members["golden.npz"]), contract)
            if CARD in members:
                _as_text(archive.read(file, members[CARD]))
        precisions = tuple(p for p in PRECISIONS if f"model.{p}.onnx" in members)
        return cls(path, contract, precisions, golden, report, manifest, members)

    def model(self, precision: str = "fp32") -> bytes:
        """The ONNX file of one of `precisions`; its checksum is verified again, since the file may have changed."""
        if precision not in self.precisions:
            expected = f"one of the precisions {', '.join(self.precisions)}"
            hint = f"export again with --{precision}" if precision in PRECISIONS else ""
            raise BundleError(f"{self.path}: expected {expected}, got {precision!r}", hint=hint)
        return self._content(f"model.{precision}.onnx")

    def extra(self, name: str) -> bytes | None:
        """One of `EXTRAS`, or None where this bundle has none of that name."""
        return self._content(name) if name in EXTRAS and name in self.members else None

    def card(self) -> str | None:
        """The model card, Markdown, or None where this bundle has none. Escape its control characters to print it."""
        content = self.extra(CARD)
        return None if content is None else _as_text(content)

    def _content(self, name: str) -> bytes:
        with _opened(self.path) as (file, _):
            content = archive.read(file, self.members[name])
            _compare_sums(name, hashlib.sha256(content).hexdigest(), self.manifest[name])
        return content


def write_bundle(
    path: Path | str,
    contract: Contract,
    models: Mapping[str, bytes],
    golden: Golden,
    report: Mapping[str, Any],
    extras: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a bundle whole or not at all, read it back, and return its path.

    `models` maps precisions to ONNX files. The same arguments give the same bytes. Raises `BundleError` for
    what `Bundle.open` would refuse, and `StorageError` where the disk refuses; `path` is then as it was.
    """
    path = Path(path)
    try:
        contents = {
            "contract.json": strictjson.dumps(contract.to_json()),
            "report.json": strictjson.dumps(dict(report)),
            "golden.npz": pack(golden, contract),
        }
    except (TypeError, ValueError) as error:
        raise BundleError(f"report.json: expected plain JSON, got {error}") from error
    contents |= {f"model.{precision}.onnx": model for precision, model in models.items()} | dict(extras or {})
    for name, content in contents.items():
        if name not in _LIMITS or name == "manifest.json":
            raise BundleError(f"expected no members but {', '.join(_LIMITS)}, got {name!r}")
        if not 0 < len(content) <= _LIMITS[name]:
            raise BundleError(f"{name}: expected 1 to {_LIMITS[name]} bytes, got {len(content)}")
    ordered = [(name, contents[name]) for name in _LIMITS if name in contents]
    sums = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in ordered}
    manifest = strictjson.dumps({"schema": SCHEMA, "members": sums})
    with atomic_write(path) as file:
        archive.write(file, [("manifest.json", manifest), *ordered])
        file.flush()
        Bundle.open(Path(file.name))  # before it gets its name: what we would refuse must not be left behind
    return path


def _read_manifest(content: bytes, members: Mapping[str, archive.Member]) -> dict[str, str]:
    """Member name -> sha256. The manifest names every other member, with its size, and no more."""
    value = strictjson.loads(content, "manifest.json")
    listed = value.get("members") if isinstance(value, dict) and set(value) == {"schema", "members"} else None
    if not isinstance(listed, dict):
        raise BundleError("manifest.json: expected an object with schema and members, got another")
    if value["schema"] != SCHEMA or isinstance(value["schema"], bool):
        raise BundleError(
            f"manifest.json: expected schema {SCHEMA}, got {str(value['schema'])[:40]!r}",
            hint="this bundle is of another version of medtex-edge: install that, or export again",
        )
    for name in sorted(set(listed) ^ (set(members) - {"manifest.json"})):
        actual = "one that is not in the file" if name in listed else "one that is not in the manifest"
        raise BundleError(f"manifest.json: expected the members of the file, got {actual}: {name[:80]!r}")
    sums: dict[str, str] = {}
    for name, entry in listed.items():
        size = members[name].size
        digest = entry.get("sha256") if isinstance(entry, dict) and set(entry) == {"sha256", "size"} else None
        if not isinstance(digest, str):
            raise BundleError(f"manifest.json: expected sha256 and size of {name}, got something else")
        if type(entry["size"]) is not int or entry["size"] != size:
            actual = str(entry["size"])[:40]
            raise BundleError(f"manifest.json: expected {name} of {size} bytes, got {actual!r}")
        sums[name] = digest
    return sums


def _read_contract(content: bytes) -> Contract:
    value = strictjson.loads(content, "contract.json")
    try:
        return Contract.from_json(value)
    except BundleError as error:
        raise BundleError(f"contract.json: {error.message}") from error


def _as_text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{CARD}: expected UTF-8, got {content[error.start]:#04x} at byte {error.start}") from error


def _check_sum(file: IO[bytes], member: archive.Member, digest: str) -> None:
    _compare_sums(member.name, hashlib.sha256(archive.read(file, member)).hexdigest(), digest)


def _compare_sums(name: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise BundleError(f"{name}: expected sha256 {expected[:64]!r}, got '{actual}': damaged or changed")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The file and its length; errors of the block get the file's name in front and a hint."""
    try:
        # Checked before opening: opening a named pipe would block for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BundleError("expected a .medtex file, got a folder or device")
        with path.open("rb") as file:
            yield file, path.stat().st_size
    except BundleError as error:
        raise BundleError(f"{path}: {error.message}", hint=error.hint or _AGAIN) from error
    except OSError as error:
        message = f"{path}: expected a .medtex file, got: {error.strerror or error}"
        raise BundleError(message, hint="name a bundle; `medtex-edge export` makes one") from error
