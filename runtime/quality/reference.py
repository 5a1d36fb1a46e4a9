"""What a frame says about itself, in numpy: the reference of runtime/native/quality_metrics.cpp, and its stand-in.

Whole numbers throughout, so that both say the same to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medtex_edge.image.pixel_format import NV12, YUYV

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

_SAMPLED_ROWS = 32  # at least, where the frame has as many
_LIT, _LIT_LUMA = 16, 30  # of 255; luma is 16 at black
_LANES = 8
_FACTOR, _ACROSS = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
_DISC_LIT = 10  # below it a pixel of the disc is border or cut off
_CLIPPED = 250
_INSET = 4  # pixels that are kept away from whatever is not lit


class Sums(NamedTuple):
    """What `quality_metrics` adds up over the lit disc; see `QualityMetrics` in runtime/native/quality_metrics.hpp."""

    disc: int  # pixels of the disc, lit or not
    disc_top: int  # their brightest channels
    inside: int  # pixels away from whatever is not lit
    top: int
    grey: int
    clipped: int
    fine: int  # detail between binomial blurs of variance 1 and 2, in 16ths of a level
    fine_squares: int
    coarse_inside: int  # every second pixel and row
    coarse: int  # between 4 and 16
    coarse_squares: int


def precheck_frame(frame: U8, layout: int) -> tuple[int, int, int]:
    """Every so many rows: a number that changes with any byte of them, the lit levels in them, and all levels.

    frame is uint8 in that layout. The number is a polynomial of the rows' 64-bit words, in 8 lanes, modulo 2**64.
    """
    height = frame.shape[0] // 3 * 2 if layout == NV12 else frame.shape[0]
    rows = frame[: height : max(1, height // _SAMPLED_ROWS)]
    levels = rows[..., 0] if layout == YUYV else rows
    lit = int(np.count_nonzero(levels >= (_LIT_LUMA if layout in (YUYV, NV12) else _LIT)))
    flat = rows.reshape(len(rows), -1)
    padded = np.zeros((len(rows), -(-flat.shape[1] // 64) * 64), np.uint8)
    padded[:, : flat.shape[1]] = flat
    words = padded.reshape(-1).view("<u8").reshape(-1, _LANES)
    powers = np.full(len(words), _FACTOR, np.uint64)
    powers[-1] = 1
    powers = np.cumprod(powers[::-1], dtype=np.uint64)[::-1] if len(powers) > 1 else powers
    lanes = (words * powers[:, None]).sum(axis=0, dtype=np.uint64)
    digest = 0
    for lane in lanes.tolist():
        digest = (digest * _ACROSS + lane) % 2**64
    return digest, lit, levels.size


def quality_metrics(picture: U8, structure: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """The `Sums` of (n, n, 3) RGB, n a multiple of 4, 16 to 256.

    structure (n / 4, n / 4) gets the coarse detail, four cells added up, 0 where nothing is inside.
    """
    n = len(picture)
    red, green, blue = (picture[..., c].astype(np.int64) for c in range(3))
    top = np.maximum(np.maximum(red, green), blue)
    grey = (77 * red + 150 * green + 29 * blue + 128) >> 8
    across = 2 * np.arange(n) + 1 - n
    disc = 100 * (across[:, None] ** 2 + across**2) < 81 * n * n
    inside = _eroded(disc & (top > _DISC_LIT))
    once = _blur(16 * grey, 5)
    twice = _blur(once, 5)
    fine = (once - twice)[inside]
    two = _blur(twice[::2, ::2], 3)
    four = _blur(_blur(_blur(two, 5), 5), 5)
    detail = np.where(inside[::2, ::2], two - four, 0)
    structure[:] = detail.reshape(n // 4, 2, n // 4, 2).sum(axis=(1, 3))
    sums = (
        disc.sum(), top[disc].sum(), inside.sum(), top[inside].sum(), grey[inside].sum(),
        (top[inside] >= _CLIPPED).sum(), fine.sum(), (fine**2).sum(),
        inside[::2, ::2].sum(), detail.sum(), (detail**2).sum(),
    )  # fmt: skip
    return tuple(int(each) for each in sums)


def _eroded(lit: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where a pixel and all within `_INSET` of it, up, down and across, are lit; not along the picture's edge."""
    for axis in (0, 1):
        steps = [np.roll(lit, step, axis) for step in range(-_INSET, _INSET + 1)]
        lit = np.logical_and.reduce(steps)
        edge = np.s_[:_INSET] if axis == 0 else np.s_[:, :_INSET]
        lit[edge] = False
        lit = np.flip(lit, axis)
        lit[edge] = False
        lit = np.flip(lit, axis)
    return lit


def _blur(picture: I64, taps: int) -> I64:
    """A binomial blur of three or five taps, down and across, rounded each time; the outermost pixels are repeated."""
    weights = (1, 2, 1) if taps == 3 else (1, 4, 6, 4, 1)
    shift, reach = (2, 1) if taps == 3 else (4, 2)
    for axis in (0, 1):
        padded = np.pad(picture, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="edge")
        length = picture.shape[axis]
        parts = [weight * padded.take(range(k, k + length), axis) for k, weight in enumerate(weights)]
        picture = (sum(parts[1:], parts[0]) + (1 << (shift - 1))) >> shift
    return picture
