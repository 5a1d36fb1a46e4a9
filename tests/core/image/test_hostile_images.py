"""Image files that nobody vouches for: a correct picture or one clear error, never a traceback or garbage."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_kit import SHARED, encode, eye, png_claiming, with_orientation

from medtex_edge.errors import ImageError
from medtex_edge.image.photo import MAX_PIXELS, decode_photo, read_photo

JPEG = encode(".jpg", eye(1), cv2.IMWRITE_JPEG_QUALITY, 90)
PNG = encode(".png", eye(1))


def test_a_good_jpeg_and_png_come_out_as_opencv_decodes_them() -> None:
    assert np.array_equal(decode_photo(PNG, "a.png"), eye(1))
    expected = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_photo(JPEG, "a.jpg"), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_a_file_cut_off_anywhere_is_refused(suffix: str) -> None:
    data = encode(suffix, eye(2))
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        with pytest.raises(ImageError):
            decode_photo(data[: int(share * len(data))], f"cut{suffix}")


@given(st.integers(0, len(JPEG) - 1))
@settings(max_examples=60, deadline=None)
def test_a_jpeg_without_its_last_bytes_never_passes(length: int) -> None:
    with pytest.raises(ImageError):
        decode_photo(JPEG[:length], "cut.jpg")


@given(st.integers(0, len(PNG) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_png_with_one_changed_byte_never_passes(index: int, change: int) -> None:
    damaged = bytearray(PNG)
    damaged[index] ^= change
    with pytest.raises(ImageError):
        decode_photo(bytes(damaged), "damaged.png")


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"BM", b"RIFF"]))
@settings(max_examples=150, deadline=None)
def test_random_bytes_are_an_image_error_and_nothing_else(body: bytes, magic: bytes) -> None:
    with pytest.raises(ImageError):
        decode_photo(magic + body, "noise")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    assert decode_photo(JPEG + b"\0" * 50, "a.jpg").shape == eye(1).shape


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"grade,image\n0,a.jpg\n", "not an image"),
        (b"GIF89a" + bytes(40), "not an image"),
        (png_claiming(20000, 20000), "400 megapixels"),
        (png_claiming(0, 5), "0 x 5"),
        (png_claiming(64, 64), "cannot be decoded"),
    ],
)
def test_what_is_wrong_is_said_with_the_name(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        decode_photo(data, "photo.jpg")
    assert caught.value.message.startswith("photo.jpg: ")
    assert "\n" not in caught.value.message


def test_a_huge_picture_is_refused_before_memory_is_taken() -> None:
    data = png_claiming(20000, 20000)
    tracemalloc.start()
    with pytest.raises(ImageError, match=f"at most {MAX_PIXELS / 1e6:.0f}"):
        decode_photo(data, "huge.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_one_pixel_is_a_picture() -> None:
    data = encode(".png", np.full((1, 1, 3), (9, 8, 7), np.uint8))
    assert decode_photo(data, "dot.png").tolist() == [[[9, 8, 7]]]


def test_sixteen_bit_grey_becomes_eight_bit_rgb() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    image = decode_photo(encode(".tif", ramp), "ramp.tif")
    assert image.shape == (1, 256, 3)
    assert image.dtype == np.uint8
    assert np.abs(image[0].astype(int) - np.arange(256)[:, None]).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_samples_of_fewer_bits_in_sixteen_are_not_black(bits: int) -> None:
    ramp = np.linspace(0, (1 << bits) - 1, 64).astype(np.uint16).reshape(8, 8)
    image = decode_photo(encode(".png", ramp), "ramp.png")
    assert image.min() == 0
    assert image.max() == 255


def test_transparency_lies_over_black() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., :3] = (10, 100, 200)  # B, G, R
    pixels[0, :, 3] = (0, 255)
    pixels[1, :, 3] = 128
    image = decode_photo(encode(".png", pixels), "clear.png")
    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[0, 1].tolist() == [200, 100, 10]
    assert np.abs(image[1, 0].astype(int) - [100, 50, 5]).max() <= 1


def test_floating_point_pictures_must_lie_between_zero_and_one() -> None:
    good = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert decode_photo(encode(".tif", good), "f.tif").max() == 255
    with pytest.raises(ImageError, match=r"0\.\.1"):
        decode_photo(encode(".tif", good * 7), "f.tif")
    with pytest.raises(ImageError, match=r"0\.\.1"):
        decode_photo(encode(".tif", good * np.float32(np.nan)), "f.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_applies_it(orientation: int) -> None:
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:8, :8], picture[:8, 24:], picture[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    data = with_orientation(encode(".jpg", picture, cv2.IMWRITE_JPEG_QUALITY, 100), orientation)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    image = decode_photo(data, "turned.jpg")
    assert image.flags.c_contiguous
    assert np.array_equal(image, expected)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.jpg.*No such file"):
        read_photo(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_photo(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_photo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_photo(tmp_path / "a\0b.jpg")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photographs (../shared/data) are not on this machine")
def test_real_photographs_decode_and_their_truncations_do_not() -> None:
    for path in sorted((SHARED / "idrid" / "images").glob("*.jpg"))[:20]:
        data = path.read_bytes()
        assert decode_photo(data, path.name).shape == (320, 482, 3)
        with pytest.raises(ImageError, match="cut off"):
            decode_photo(data[: len(data) * 3 // 4], path.name)
