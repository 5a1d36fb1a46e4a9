"""Synthetic photographs and small datasets for tests, and image files that lie."""

from __future__ import annotations

import csv
import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.train.synthetic.scene import render

SHARED = Path(__file__).parents[3] / "../shared/data"


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """No file can grow beyond `limit` bytes: the kernel refuses, as on a full disk (EFBIG instead of ENOSPC)."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@lru_cache(maxsize=64)
def eye(seed: int, size: int = 96) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, read-only."""
    image = render(seed, size=size).image
    image.flags.writeable = False
    return image


def encode(suffix: str, rgb: npt.NDArray[np.generic], *options: int) -> bytes:
    """The bytes of an image file."""
    pixels = rgb[..., ::-1] if rgb.ndim == 3 and rgb.shape[2] == 3 else rgb
    done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), list(options))
    assert done
    return bytes(data)


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(path.suffix, eye(seed)))
    return path


def write_rows(path: Path, header: str, rows: list[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)


def csv_dataset(
    folder: Path, labels: list[str], *, header: str = "image,label", extra: list[str] | None = None
) -> Path:
    """images/0.jpg ... and labels.csv with one line each; `extra` is appended to each line."""
    more = extra or [""] * len(labels)
    for index in range(len(labels)):
        save(folder / "images" / f"{index}.jpg", index)
    write_rows(folder / "labels.csv", header, [f"{i}.jpg,{label}{more[i]}" for i, label in enumerate(labels)])
    return folder


def class_folders(folder: Path, counts: dict[str, int], start: int = 0) -> Path:
    """NAME/0.jpg ... for each class or split/class."""
    seed = start
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            save(folder / name / f"{seed}.jpg", seed)
            seed += 1
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG with right check sums whose header claims any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an Exif block that holds nothing but the orientation."""
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
