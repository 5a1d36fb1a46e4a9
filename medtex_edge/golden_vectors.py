"""Golden vectors: a few input frames and the answers of the model that the bundle was made of.

A device recomputes them at every start (`medtex_edge.runtime.backend.golden_check`) and refuses to run when they have
drifted. `golden.npz` opens with `numpy.load`, but is not read with it: numpy trusts the shapes in it.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge import archive
from medtex_edge.contract import Contract
from medtex_edge.errors import BundleError

MAX_VECTORS = 64
MAX_VECTORS_BYTES = 64 << 20
_NAMES = ("images.npy", "probabilities.npy", "saliency.npy")
_DESCRS = ("|u1", "<f4", "<f4")
_MAGIC = b"\x93NUMPY\x01\x00"  # version 1.0: two bytes of header length (numpy.lib.format)
_SHAPE = rb"\(([0-9]{1,9}(?:, [0-9]{1,9}){0,3},?)\)"
_HEADER = re.compile(rb"\{'descr': '([<|][uf][14])', 'fortran_order': False, 'shape': " + _SHAPE + rb", \} *\n")


@dataclass(frozen=True, eq=False)
class Golden:
    """K frames and the answers of the fp32 model: at most `MAX_VECTORS` of them."""

    images: npt.NDArray[np.uint8]  # (K, H, W, 3) RGB, as the graph takes them
    probabilities: npt.NDArray[np.float32]  # (K, C), each row sums to 1
    saliency: npt.NDArray[np.float32]  # (K, h, w) in 0..1

    def __len__(self) -> int:
        return len(self.images)


def pack(golden: Golden, contract: Contract) -> bytes:
    """`golden.npz`, the same bytes for the same arrays. Raises `BundleError` as `check` does."""
    check(golden, contract)
    arrays: tuple[npt.NDArray[Any], ...] = (golden.images, golden.probabilities, golden.saliency)
    file = io.BytesIO()
    archive.write(file, [(name, _to_npy(array)) for name, array in zip(_NAMES, arrays, strict=True)])
    return file.getvalue()


def unpack(content: bytes, contract: Contract) -> Golden:
    """Read and check `golden.npz`. Raises `BundleError`: the array, what was expected, what was found."""
    file = io.BytesIO(content)
    try:
        members = archive.scan(file, len(content), dict.fromkeys(_NAMES, MAX_VECTORS_BYTES))
        for name in _NAMES:
            if name not in members:
                raise BundleError(f"expected an array {name}, got none")
        parts = [_parse(name, archive.read(file, members[name])) for name in _NAMES]
        shapes = _shapes(contract, parts[0][1][0])  # K is the number of images; all else follows
        images, probabilities, saliency = (
            _array(name, part, descr, shape)
            for name, part, descr, shape in zip(_NAMES, parts, _DESCRS, shapes, strict=True)
        )
        golden = Golden(images, probabilities, saliency)
        check(golden, contract)
    except BundleError as error:
        raise BundleError(f"golden.npz: {error.message}") from error
    return golden


def check(golden: Golden, contract: Contract) -> None:
    """Shapes and types against the contract, values in their range. Raises `BundleError`."""
    count = len(golden.images)
    if not 1 <= count <= MAX_VECTORS:
        raise BundleError(f"expected 1 to {MAX_VECTORS} golden frames, got {count}")
    arrays: tuple[npt.NDArray[Any], ...] = (golden.images, golden.probabilities, golden.saliency)
    names, types = ("images", "probabilities", "saliency"), (np.uint8, np.float32, np.float32)
    for name, array, dtype, shape in zip(names, arrays, types, _shapes(contract, count), strict=True):
        if array.dtype != dtype or array.shape != shape:
            expected = f"{np.dtype(dtype).name} {shape} as in the contract"
            raise BundleError(f"golden {name}: expected {expected}, got {array.dtype} {array.shape}")
    for name, array in (("probabilities", golden.probabilities), ("saliency", golden.saliency)):
        # Written so that NaN fails it.
        if not (array.min() >= 0 and array.max() <= 1 + 1e-6):
            actual = f"{array.min():g} to {array.max():g}"
            raise BundleError(f"golden {name}: expected values in 0..1, got {actual}")
    off = np.abs(golden.probabilities.sum(axis=1, dtype=np.float64) - 1).max()
    if not off <= 1e-3:
        raise BundleError(f"golden probabilities: expected rows that sum to 1, got one off by {off:g}")


def _shapes(contract: Contract, count: int) -> tuple[tuple[int, ...], ...]:
    return (
        (count, contract.height, contract.width, 3),
        (count, len(contract.classes)),
        (count, contract.saliency_height, contract.saliency_width),
    )


def _to_npy(array: npt.NDArray[Any]) -> bytes:
    # Our own header rather than numpy's: theirs changes its padding between versions, and ours must not.
    descr = "|u1" if array.dtype == np.uint8 else "<f4"
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {array.shape}, }}"
    header += " " * (-(len(_MAGIC) + 2 + len(header) + 1) % 64) + "\n"
    return _MAGIC + len(header).to_bytes(2, "little") + header.encode() + array.astype(descr).tobytes()


def _parse(name: str, content: bytes) -> tuple[str, tuple[int, ...], memoryview]:
    """Stated type, stated shape and the bytes behind the header; none of them trusted yet."""
    start = len(_MAGIC) + 2
    length = int.from_bytes(content[len(_MAGIC) : start], "little")
    match = _HEADER.fullmatch(content[start : start + length])
    if not content.startswith(_MAGIC) or match is None:
        raise BundleError(f"{name}: expected a .npy header of version 1.0 for plain numbers, got another")
    shape = tuple(int(side) for side in match[2].split(b",") if side)
    return match[1].decode(), shape, memoryview(content)[start + length :]


def _array(
    name: str, part: tuple[str, tuple[int, ...], memoryview], descr: str, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    *actual, data = part
    if actual != [descr, shape]:
        raise BundleError(f"{name}: expected {descr} {shape} as in the contract, got {actual[0]} {actual[1]}")
    size = math.prod(shape) * int(descr[-1])
    if len(data) != size:
        raise BundleError(f"{name}: expected {size} bytes of numbers, got {len(data)}")
    return np.frombuffer(data, dtype=descr).reshape(shape).astype(descr.lstrip("<|"), copy=False)
