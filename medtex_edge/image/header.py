"""The header of an image file, read before any pixel is decoded: kind, size, orientation, and if the file is whole.

OpenCV's decoders allocate whatever size a header claims and return half-grey pictures for files that end early.
Both are checked here, on the bytes alone. Sources: ITU-T T.81 annex B (JPEG), PNG specification 3rd edition,
TIFF 6.0, CIPA DC-008 (Exif), RFC 9649 (WebP).
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

KINDS = ("JPEG", "PNG", "TIFF", "BMP", "WebP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".webp"})

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\x00", b"MM\x00*")
# In JPEG's entropy-coded data FF 00 is a byte, FF D0..D7 a restart, FF FF padding; all else is a marker.
_JPEG_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class HeaderError(ValueError):
    """The bytes are no image of a known kind, or are not whole. The text completes "NAME: ..."."""


@dataclass(frozen=True)
class Header:
    """`width`, `height` in pixels as stored; `orientation`: Exif's 1..8 (1: as stored), yet to be applied."""

    kind: str
    width: int
    height: int
    orientation: int = 1


def read_header(data: bytes) -> Header:
    """The header of a file's bytes. Raises `HeaderError` if they are empty, of no known kind, damaged or cut off."""
    if not data:
        raise HeaderError("the file is empty")
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(_TIFF):
            return _tiff(data)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except struct.error:
        raise HeaderError("the file ends within its header") from None
    raise HeaderError(f"not an image of a known kind ({', '.join(KINDS)}); it begins with {data[:12]!r}")


def _jpeg(data: bytes) -> Header:
    """Walk all markers to the end-of-image one: only that proves that nothing was cut off."""
    size: tuple[int, int] | None = None
    orientation, position, scanned = 1, 2, False
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            raise HeaderError(f"the JPEG is cut off: it has no end after {len(data)} bytes")
        marker, position = data[match.end() - 1], match.end()
        if marker == 0xD9:
            break
        if marker == 0x01 or marker == 0xD8:
            continue  # markers without a length
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + length]
        if length < 2 or len(body) != length - 2:
            raise HeaderError("the JPEG is cut off within its header")
        if marker in _JPEG_FRAMES and size is None:
            height, width = struct.unpack_from(">HH", body, 1)
            size = width, height
        elif marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            orientation = _orientation(body[6:])
        scanned = scanned or marker == 0xDA
        position += length
    if size is None or not scanned:
        raise HeaderError("the JPEG holds no picture")
    return Header("JPEG", *size, orientation)


def _png(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    orientation, position = 1, len(_PNG)
    view = memoryview(data)
    while True:
        if position + 12 > len(data):
            raise HeaderError(f"the PNG is cut off: it has no end after {len(data)} bytes")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise HeaderError(f"the PNG is cut off: it has no end after {len(data)} bytes")
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise HeaderError("the PNG is damaged: a checksum does not match")
        if name == b"IHDR" and size is None:
            width, height = struct.unpack_from(">II", data, position + 8)
            size = width, height
        elif name == b"eXIf":
            orientation = _orientation(data[position + 8 : end])
        elif name == b"IEND":
            break
        position = end + 4
    if size is None:
        raise HeaderError("the PNG has no header")
    return Header("PNG", *size, orientation)


def _tiff(data: bytes) -> Header:
    tags = _tags(data)
    width, height = tags.get(256), tags.get(257)
    if width is None or height is None:
        raise HeaderError("the TIFF names no width and height")
    return Header("TIFF", width, height)  # OpenCV's TIFF reader turns the picture itself


def _bmp(data: bytes) -> Header:
    file_size, start, header = struct.unpack_from("<I4xII", data, 2)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    if max(file_size, start) > len(data):
        raise HeaderError(f"the BMP is cut off: {len(data)} of {max(file_size, start)} bytes")
    return Header("BMP", abs(width), abs(height))


def _webp(data: bytes) -> Header:
    (riff,) = struct.unpack_from("<I", data, 4)
    if riff + 8 > len(data):
        raise HeaderError(f"the WebP is cut off: {len(data)} of {riff + 8} bytes")
    size: tuple[int, int] | None = None
    orientation, position = 1, 12
    while position + 8 <= min(len(data), riff + 8):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if name == b"VP8X":
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif name == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", body, 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif name == b"VP8L" and size is None:
            bits = int.from_bytes(body[1:5], "little")
            size = 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
        elif name == b"EXIF":
            orientation = _orientation(body.removeprefix(b"Exif\x00\x00"))
        position += 8 + length + (length & 1)
    if size is None:
        raise HeaderError("the WebP holds no picture")
    return Header("WebP", *size, orientation)


def _orientation(exif: bytes) -> int:
    """Exif's orientation, or 1 where the block is damaged: a broken Exif block must not cost the picture."""
    try:
        value = _tags(exif).get(274, 1)
    except (HeaderError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def _tags(data: bytes) -> dict[int, int]:
    """The first image file directory of a TIFF structure: tag -> its first whole-number value."""
    if data[:4] not in _TIFF:
        raise HeaderError("not a TIFF structure")
    order = "<" if data[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags: dict[int, int] = {}
    for index in range(count):
        entry = start + 2 + 12 * index
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind in (3, 4):  # SHORT, LONG
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return tags
