"""A zip of stored members in one canonical form: what `write` writes is all that `scan` reads.

Zip readers disagree about prefixes, comments, overlapping entries, duplicate names and data descriptors; a
file that two programs read differently cannot be vouched for. So the form is fixed to the last byte of every
header (PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16): members one after another from byte 0, the
directory right behind them, the end record last, nothing compressed, encrypted, linked or left over. Any zip
program opens it; only this one writes it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from .errors import BundleError

_LOCAL = struct.Struct("<4s5H3I2H")  # signature, needed, flags, method, time, date, crc, sizes, name, extra
_ENTRY = struct.Struct("<4s6H3I5H2I")  # the same with: made by, comment, disk, internal, external, offset
_END = struct.Struct("<4s4H2IH")  # signature, disks, counts, directory size and offset, comment
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_VERSION = 20
_MADE_BY = 3 << 8 | _VERSION  # unix, so that the permissions below hold
_DATE = 1 << 5 | 1  # 1980-01-01, the epoch of zip: the same inputs give the same bytes
_REGULAR = 0o100644
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Member:
    """One member: `offset` is where its content begins in the file, `size` in bytes."""

    name: str
    size: int
    crc: int
    offset: int


def write(file: IO[bytes], members: Sequence[tuple[str, bytes]]) -> None:
    """Write `members` in their order. The caller sees to names and sizes (`scan` would refuse bad ones)."""
    directory, offset = b"", 0
    for name, content in members:
        crc = zlib.crc32(content)
        header = _local(name.encode("ascii"), crc, len(content))
        file.write(header)
        file.write(content)
        directory += _entry(name.encode("ascii"), crc, len(content), offset)
        offset += len(header) + len(content)
    file.write(directory)
    file.write(_end(len(members), len(directory), offset))


def scan(file: IO[bytes], length: int, limits: Mapping[str, int]) -> dict[str, Member]:
    """The members of a file of `length` bytes, from its headers alone; no content is read.

    `limits` names every member that may be there and the bytes it may have. Raises `BundleError` for a file
    of any other form than `write`'s; its message names what is wrong.
    """
    head = file.read(4)
    actual = f"{length} bytes that start with {head!r}"
    _check(length >= _END.size and head == b"PK\3\4", "a zip archive", actual)
    file.seek(length - _END.size)
    signature, *_, count, directory_size, directory_at, comment = _END.unpack(file.read(_END.size))
    _check(
        signature == b"PK\5\6" and comment == 0,
        "the zip's end record in the last 22 bytes",
        "none there: the file is truncated, or something was appended",
    )
    _check(0 < count <= len(limits), f"1 to {len(limits)} members", str(count))
    _check(
        directory_at + directory_size == length - _END.size and directory_size <= count * (_ENTRY.size + 64),
        f"the zip's directory right before byte {length - _END.size}",
        f"{directory_size} bytes at {directory_at}: something was put before it, in it or behind it",
    )
    file.seek(directory_at)
    directory = file.read(directory_size)
    members = _members(directory, count, limits)
    end = 0
    rebuilt = b""
    for member in members.values():
        # Rebuilding each header and comparing leaves no field unchecked and no room for a second opinion.
        name = member.name.encode("ascii")
        _check(member.offset == end, f"{member.name} at byte {end}, right behind the last", f"{member.offset}")
        file.seek(end)
        header = _local(name, member.crc, member.size)
        _check(
            file.read(len(header)) == header,
            f"{member.name} with a header as in the zip's directory",
            "one that differs",
        )
        rebuilt += _entry(name, member.crc, member.size, end)
        end += len(header) + member.size
    _check(end == directory_at, f"the zip's directory at byte {end}, right behind the last", f"{directory_at}")
    rebuilt += _end(count, directory_size, directory_at)
    file.seek(directory_at)
    _check(
        file.read(len(rebuilt)) == rebuilt,
        "headers as medtex-edge writes them",
        "others: not written by medtex-edge",
    )
    return {m.name: Member(m.name, m.size, m.crc, m.offset + _LOCAL.size + len(m.name)) for m in members.values()}


def read(file: IO[bytes], member: Member) -> bytes:
    """The member's content. Raises `BundleError` when its length or CRC-32 is not what the zip states."""
    file.seek(member.offset)
    content = bytearray()
    # In blocks: a header that lies about a size must not make us reserve memory for what is not there.
    while len(content) < member.size and (block := file.read(min(_BLOCK, member.size - len(content)))):
        content += block
    _check(len(content) == member.size, f"{member.name} of {member.size} bytes", f"{len(content)}")
    crc = zlib.crc32(content)
    _check(crc == member.crc, f"{member.name} with CRC-32 {member.crc:08x}", f"{crc:08x}: it is damaged")
    return bytes(content)


def _members(directory: bytes, count: int, limits: Mapping[str, int]) -> dict[str, Member]:
    """Parse the directory; `offset` is still that of the local header."""
    members: dict[str, Member] = {}
    at = 0
    for index in range(count):
        _check(at + _ENTRY.size <= len(directory), f"{count} entries in the zip's directory", f"{index}")
        fields = _ENTRY.unpack_from(directory, at)
        (signature, _, _, flags, method), (mode, offset) = fields[:5], fields[15:]
        crc, packed, size, name_size, extra, comment = fields[7:13]
        _check(signature == b"PK\1\2", f"entry {index} of the zip's directory", f"{signature!r}")
        raw = directory[at + _ENTRY.size : at + _ENTRY.size + name_size]
        name = raw.decode("latin-1")
        _check(_NAME.fullmatch(name) is not None, "plain file names, without folders", _shown(name))
        _check(name in limits, f"no members but {', '.join(limits)}", _shown(name))
        _check(name not in members, f"one member {name}", "two of that name")
        _check(not flags & 0x2041, f"{name} unencrypted", "an encrypted member")
        _check(method == 0 and packed == size, f"{name} stored", "a compressed member")
        _check(mode >> 16 & 0o170000 in (0, 0o100000), f"{name} to be a file", "a link, folder or device")
        _check(0 < size <= limits[name], f"{name} of 1 to {limits[name]} bytes", f"{size}")
        _check(extra == 0 and comment == 0, f"{name} without extra fields or comment", "some")
        members[name] = Member(name, size, crc, offset)
        at += _ENTRY.size + name_size
    _check(at == len(directory), f"a zip directory of {at} bytes", f"{len(directory)}")
    return members


def _local(name: bytes, crc: int, size: int) -> bytes:
    return _LOCAL.pack(b"PK\3\4", *_common(name, crc, size)) + name


def _entry(name: bytes, crc: int, size: int, offset: int) -> bytes:
    common = _common(name, crc, size)
    return _ENTRY.pack(b"PK\1\2", _MADE_BY, *common, 0, 0, 0, _REGULAR << 16, offset) + name


def _common(name: bytes, crc: int, size: int) -> tuple[int, ...]:
    return (_VERSION, 0, 0, 0, _DATE, crc, size, size, len(name), 0)


def _end(count: int, size: int, offset: int) -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:80] + "...")


def _check(condition: bool, expected: str, actual: str) -> None:
    if not condition:
        raise BundleError(f"expected {expected}, got {actual}")
