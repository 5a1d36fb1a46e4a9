from __future__ import annotations

import tracemalloc

import bundles
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtex_edge.runtime.sources import jpeg
from medtex_edge.runtime.sources.jpeg import Splitter, decode

PICTURES = [cv2.imencode(".jpg", bundles.disc(120, width=160, seed=seed))[1].tobytes() for seed in range(3)]
PROGRESSIVE = cv2.imencode(".jpg", bundles.disc(120), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
RESTARTS = cv2.imencode(".jpg", bundles.disc(120), [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
# An application segment that holds a small picture of its own, as cameras write into Exif.
THUMBNAIL = PICTURES[0][:2] + b"\xff\xe1" + (len(PICTURES[1]) + 2).to_bytes(2, "big") + PICTURES[1] + PICTURES[0][2:]


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    """Feed `data` in pieces of these sizes, over and over. With pieces smaller than a picture none is passed over."""
    splitter, found, at, turn = Splitter(), [], 0, 0
    while at < len(data):
        step = sizes[turn % len(sizes)]
        newest = splitter.feed(data[at : at + step], float(turn))
        found += [newest[0]] if newest else []
        at, turn = at + step, turn + 1
    return found


@given(
    st.lists(st.integers(1, 1500), min_size=1, max_size=5), st.binary(max_size=40).filter(lambda b: b"\xff" not in b)
)
def test_pictures_are_found_whole_however_the_stream_is_cut_into_pieces(sizes: list[int], between: bytes) -> None:
    pictures = [*PICTURES, PROGRESSIVE, RESTARTS, THUMBNAIL]
    assert split(between.join([b"", *pictures, b""]), sizes) == pictures


def test_of_several_pictures_that_came_at_once_the_newest_is_given() -> None:
    newest = Splitter().feed(b"".join(PICTURES), 5.0)
    assert newest == (PICTURES[-1], 5.0)


def test_the_age_of_a_picture_counts_from_its_first_byte() -> None:
    splitter = Splitter()
    assert splitter.feed(PICTURES[0][:100], 1.0) is None
    assert splitter.feed(PICTURES[0][100:500], 2.0) is None
    found = splitter.feed(PICTURES[0][500:] + PICTURES[1][:9], 9.0)
    assert found == (PICTURES[0], 1.0)
    found = splitter.feed(PICTURES[1][9:], 12.0)
    assert found == (PICTURES[1], 9.0)


def test_a_picture_that_another_cuts_off_is_counted_and_the_other_is_found() -> None:
    splitter = Splitter()
    found = splitter.feed(PICTURES[0][: len(PICTURES[0]) // 2] + b"\r\n--frame\r\n\r\n" + PICTURES[1], 0.0)
    assert found is not None
    assert found[0] == PICTURES[1]
    assert splitter.broken == 1


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_after_any_bytes_pictures_are_found_again_within_the_length_of_one_segment(pieces: list[bytes]) -> None:
    splitter = Splitter()
    for piece in pieces:
        splitter.feed(piece, 0.0)
        splitter.feed(b"\xff\xd8\xff" + piece, 0.0)
    for _ in range((1 << 16) // len(PICTURES[0]) + 2):
        splitter.feed(PICTURES[0], 0.0)
    assert splitter.feed(PICTURES[1], 0.0) == (PICTURES[1], 0.0)


def test_a_picture_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "MAX_BYTES", 1 << 18)
    splitter = Splitter()
    splitter.feed(PICTURES[0][:-2], 0.0)
    tracemalloc.start()
    try:
        for _ in range(400):
            splitter.feed(b"\x11" * (1 << 16), 0.0)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert splitter.broken == 1
    found = splitter.feed(PICTURES[1], 0.0)
    assert found is not None
    assert found[0] == PICTURES[1]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
def test_a_picture_that_lacks_data_is_refused_with_an_end_marker_and_without(share: float) -> None:
    whole = cv2.imencode(".jpg", cv2.resize(bundles.disc(240), (320, 320)))[1].tobytes()
    cut = whole[: int(len(whole) * share)]
    assert decode(whole) is not None
    assert decode(cut) is None
    assert decode(cut + b"\xff\xd9") is None


def test_what_is_none_or_would_fill_the_memory_is_refused() -> None:
    assert decode(b"") is None
    assert decode(b"\xff\xd8\xff\xd9") is None
    assert decode(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()) is None
    huge = bytearray(PICTURES[0])
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = (60000).to_bytes(2, "big") * 2
    assert decode(bytes(huge)) is None


def test_a_picture_is_bgr_and_as_stored() -> None:
    red = cv2.imencode(".jpg", np.full((32, 48, 3), (10, 20, 200), np.uint8))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = red[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + red[2:]
    pixels = decode(turned)
    assert pixels is not None
    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels[16, 24].astype(int) - (10, 20, 200)).max() < 8
