"""Read one photograph from untrusted bytes. Shared by training and the device.

The result is always (H, W, 3) uint8 RGB, upright:
- 16-bit pictures become 8-bit by the smallest of 8, 10, 12, 14, 16 bits that holds their maximum, since
  cameras store 12-bit samples in 16-bit files; floating-point ones must lie in 0..1.
- Grey becomes RGB; transparency is laid over black, which is what surrounds a fundus.
- Exif orientation is applied.
- Files that are too large (`MAX_PIXELS`), cut off, damaged or of an unknown kind raise `ImageError`, before anything
  large is allocated.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.errors import ImageError
from medtex_edge.image.header import SUFFIXES as SUFFIXES
from medtex_edge.image.header import Header, HeaderError, read_header

MAX_PIXELS = 100_000_000  # a 100-megapixel RGB picture takes 300 MB; fundus cameras stay below 50 megapixels
MAX_BYTES = 1 << 29
Image = npt.NDArray[np.uint8]

# OpenCV logs a bad TIFF to stderr, over several lines; our message is one line, in the exception.
if "OPENCV_LOG_LEVEL" not in os.environ:
    _logging = getattr(cv2.utils, "logging", cv2)  # the second in builds such as Debian's and JetPack's
    _logging.setLogLevel(0)  # LOG_LEVEL_SILENT


def read_photo(path: Path) -> Image:
    """(H, W, 3) uint8 RGB of a file. Raises `ImageError` that names the file and the fault."""
    return decode_photo(read_bytes(path), path.name)


def read_bytes(path: Path) -> bytes:
    """The content of a regular file of at most `MAX_BYTES`. Raises `ImageError`."""
    try:
        status = path.stat()
        # A pipe or a device in a folder of photographs would block or never end.
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{path}: {status.st_size >> 20} MiB, expected at most {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a name with a zero byte
        raise ImageError(f"{str(path)!r}: cannot be read: {error}") from error


def decode_photo(data: bytes, name: str) -> Image:
    """(H, W, 3) uint8 RGB of a file's bytes; `name` is for messages. Raises `ImageError`."""
    try:
        header = read_header(data)
    except HeaderError as error:
        raise ImageError(f"{name}: {error}", hint="replace or remove the file") from None
    _check_size(header, name)
    try:
        # UNCHANGED keeps the alpha channel and 16 bits, which every other flag drops silently.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{name}: the {header.kind} cannot be decoded: {error.err}") from error
    if pixels is None:
        raise ImageError(
            f"{name}: the {header.kind} cannot be decoded; it is damaged or of a rare variant",
            hint="replace the file, or save it again as PNG",
        )
    return np.ascontiguousarray(_turn(_to_rgb(_to_8_bit(pixels, name), name), header.orientation))


def _check_size(header: Header, name: str) -> None:
    if header.width < 1 or header.height < 1:
        raise ImageError(f"{name}: the {header.kind} claims a size of {header.width} x {header.height} pixels")
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        raise ImageError(
            f"{name}: {size} is {header.width * header.height / 1e6:.0f} megapixels, "
            f"expected at most {MAX_PIXELS / 1e6:.0f}",
            hint="make the photograph smaller; models see a few hundred pixels a side",
        )


def _to_8_bit(pixels: npt.NDArray[Any], name: str) -> Image:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        largest = int(pixels.max(initial=0))
        bits = next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)
        return cv2.convertScaleAbs(pixels, alpha=255.0 / ((1 << bits) - 1))  # type: ignore[no-any-return]
    if pixels.dtype in (np.float32, np.float64):
        low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
        if np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 1:
            return (pixels * 255 + 0.5).astype(np.uint8)
        raise ImageError(f"{name}: floating-point pixels must lie in 0..1, these span {low:g}..{high:g}")
    raise ImageError(f"{name}: pixels of type {pixels.dtype}, expected 8 or 16 bits without a sign")


def _to_rgb(pixels: Image, name: str) -> Image:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[no-any-return]
    if channels == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]
    if channels == 4:
        rgb = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
        return cv2.multiply(rgb, cv2.cvtColor(pixels[..., 3], cv2.COLOR_GRAY2RGB), scale=1 / 255)  # type: ignore[no-any-return]
    raise ImageError(f"{name}: {channels} channels, expected grey, RGB or RGBA")


def _turn(image: Image, orientation: int) -> Image:
    """Apply Exif's orientation 1..8 to (H, W, 3); 5 to 8 swap the axes."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
