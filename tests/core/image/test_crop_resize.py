"""Crop and resize: its definition, what it keeps, and the caller's mistakes; numpy reference and native alike."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from geometry_kit import DATA, LESIONS, PHOTOGRAPHS, U8, frames, fundus, needs_native, needs_photographs, noise
from hypothesis import example, given
from hypothesis import strategies as st

from medtex_edge.image import reference as image_numpy
from medtex_edge.image.geometry import LAYOUTS, FieldOfView, crop_resize, find_field_of_view, prepare

boxes = st.builds(
    FieldOfView, st.integers(-150, 400), st.integers(-150, 400), st.integers(1, 500), st.just(1.0)
)  # fmt: skip


# --- the native module, its reference and the definition


def reference(image: U8, fov: FieldOfView, height: int, width: int, layout: str = "rgb") -> U8:
    out = np.empty((height, width, 3), np.uint8)
    image_numpy.crop_resize(image, fov.left, fov.top, fov.side, LAYOUTS[layout], out)
    return out


@needs_native
@given(frames(), boxes, st.integers(1, 130), st.integers(1, 130), st.sampled_from(["rgb", "bgr"]), st.booleans())
def test_native_and_reference_resize_to_the_same_pixels(
    image: U8, fov: FieldOfView, height: int, width: int, layout: str, strided: bool
) -> None:
    store = np.full((2 * height, width + 3, 5), 77, np.uint8)
    out = store[::-2, 1:-2, 3:0:-1] if strided else np.empty((height, width, 3), np.uint8)
    assert crop_resize(image, fov, height, width, layout=layout, out=out) is out
    difference = np.abs(out.astype(int) - reference(image, fov, height, width, layout))
    assert difference.max() == 0
    if strided:
        out[...] = 77
        assert (store == 77).all()  # nothing but `out` was written


def by_definition(image: U8, fov: FieldOfView, height: int, width: int) -> npt.NDArray[np.float64]:
    """The docstring of `crop_resize`, literally: weights of each pixel of the padded box, in floating point."""
    box = np.zeros((fov.side, fov.side, 3))
    for y in range(max(0, -fov.top), min(fov.side, image.shape[0] - fov.top)):
        for x in range(max(0, -fov.left), min(fov.side, image.shape[1] - fov.left)):
            box[y, x] = image[fov.top + y, fov.left + x]

    def weights(n: int) -> npt.NDArray[np.float64]:
        length, matrix = max(fov.side / n, 1.0), np.zeros((n, fov.side))
        for i in range(n):
            start = (i + 0.5) * fov.side / n - length / 2
            for k in range(math.floor(start), math.ceil(start + length)):
                overlap = min(k + 1, start + length) - max(k, start)
                matrix[i, min(max(k, 0), fov.side - 1)] += max(overlap, 0) / length
        return matrix

    return np.asarray(np.einsum("iy,yxc,jx->ijc", weights(height), box, weights(width)))


@given(frames(), st.integers(-20, 60), st.integers(-20, 60), st.integers(1, 60), st.integers(1, 90), st.integers(1, 90))
@example(fundus(64, 64, 32, 32, 30), 0, 0, 64, 64, 64)
def test_the_reference_follows_the_definition(
    image: U8, left: int, top: int, side: int, height: int, width: int
) -> None:
    fov = FieldOfView(left, top, side, 1.0)
    exact = by_definition(image, fov, height, width)
    assert np.abs(reference(image, fov, height, width) - exact).max() <= 0.5 + 1e-9


# --- what resizing keeps


@pytest.fixture(params=["used", "reference"])
def resize(request: pytest.FixtureRequest) -> Callable[..., U8]:
    if request.param == "reference":
        return reference
    return crop_resize


@pytest.mark.parametrize(("side", "height", "width"), [(97, 97, 97), (97, 41, 13), (97, 200, 300), (97, 50, 150)])
def test_a_constant_image_stays_constant(resize: Callable[..., U8], side: int, height: int, width: int) -> None:
    image = np.full((97, 97, 3), (201, 102, 3), np.uint8)
    assert (resize(image, FieldOfView(0, 0, side, 1.0), height, width) == (201, 102, 3)).all()


def test_resizing_to_the_size_of_the_box_copies_it(resize: Callable[..., U8]) -> None:
    image = noise(0, 256)
    assert (resize(image, FieldOfView(11, 7, 101, 1.0), 101, 101) == image[7:108, 11:112]).all()
    assert (resize(image, FieldOfView(11, 7, 101, 1.0), 101, 101, layout="bgr") == image[7:108, 11:112, ::-1]).all()


def test_beyond_the_frame_is_black(resize: Callable[..., U8]) -> None:
    image = np.full((40, 60, 3), 255, np.uint8)
    out = resize(image, FieldOfView(-20, -30, 100, 1.0), 100, 100)
    assert (out[30:70, 20:80] == 255).all()
    assert int(out.sum()) == 40 * 60 * 3 * 255
    assert not resize(image, FieldOfView(60, 0, 40, 1.0), 20, 20).any()
    assert not resize(image, FieldOfView(-500, 300, 40, 1.0), 60, 20).any()


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_shrinking_by_a_whole_factor_takes_the_mean_of_each_block(resize: Callable[..., U8], factor: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    n = 120 // factor
    blocks = image.reshape(n, factor, n, factor, 3).mean(axis=(1, 3))
    out = resize(image, FieldOfView(0, 0, 120, 1.0), n, n)
    assert (out == np.floor(blocks + 0.5)).all()
    assert abs(out.mean() - image.mean()) < 0.2  # half a level is rounded up, which blocks of four often hold


def test_shrinking_is_what_opencv_calls_area(resize: Callable[..., U8]) -> None:
    image = fundus(500, 500, 250, 250, 240)
    ours = resize(image, FieldOfView(0, 0, 500, 1.0), 224, 224).astype(int)
    assert np.abs(ours - cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)).max() <= 1


def test_enlarging_is_linear_interpolation(resize: Callable[..., U8]) -> None:
    image = noise(0, 256)[:50, :50]
    ours = resize(image, FieldOfView(0, 0, 50, 1.0), 224, 224).astype(int)
    assert np.abs(ours - cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)).max() <= 2


def test_a_box_of_many_rows_does_not_overflow(resize: Callable[..., U8]) -> None:
    image = np.full((2100, 1400, 3), 255, np.uint8)
    assert (resize(image, FieldOfView(0, 0, 1400, 1.0), 1, 2) == 255).all()
    assert (resize(image[::-1, ::-1, ::-1], FieldOfView(0, 700, 1400, 1.0), 2, 1) == 255).all()


# --- mistakes of the caller


@pytest.mark.parametrize(
    ("arguments", "error", "pattern"),
    [
        ({"image": [[1]]}, TypeError, "image: expected a numpy array, got list"),
        ({"image": fundus().astype(np.float32)}, TypeError, "image: expected uint8, got float32"),
        ({"image": fundus()[..., 0]}, ValueError, r"expected the shape \(height, width, 3\)"),
        ({"image": np.zeros((0, 9, 3), np.uint8)}, ValueError, "sides of 1 to"),
        ({"height": 0}, ValueError, "height: expected 1 to"),
        ({"width": 99999}, ValueError, "width: expected 1 to"),
        ({"fov": FieldOfView(0, 0, 0, 0.0)}, ValueError, "fov.side: expected 1 to"),
        ({"fov": FieldOfView(10**9, 0, 9, 0.0)}, ValueError, "within"),
        ({"out": np.zeros((9, 9, 3), np.uint8)}, ValueError, r"out: expected the shape \(64, 64, 3\)"),
        ({"out": np.zeros((64, 64, 3), np.int16)}, TypeError, "out: expected uint8"),
        ({"out": b"x"}, TypeError, "out: expected a numpy array, got bytes"),
        ({"out": np.frombuffer(bytes(64 * 64 * 3), np.uint8).reshape(64, 64, 3)}, ValueError, "read-only"),
    ],
)
def test_arguments_that_cannot_be_meant_are_named(
    arguments: dict[str, Any], error: type[Exception], pattern: str
) -> None:
    call: dict[str, Any] = {"image": fundus(), "fov": FieldOfView(0, 0, 320, 1.0), "height": 64, "width": 64}
    with pytest.raises(error, match=pattern):
        crop_resize(**{**call, **arguments})


def test_an_out_inside_the_image_is_refused() -> None:
    image = fundus()
    with pytest.raises(ValueError, match="memory of its own"):
        crop_resize(image, FieldOfView(0, 0, 320, 1.0), 64, 64, out=image[:64, :64])


def test_a_read_only_image_serves() -> None:
    image = fundus()
    image.setflags(write=False)
    out, fov = prepare(image, 64, 64)
    assert out.shape == (64, 64, 3)
    assert fov == find_field_of_view(fundus())


def test_prepare_finds_and_crops_into_the_given_array() -> None:
    batch = np.zeros((2, 64, 48, 3), np.uint8)
    out, fov = prepare(fundus()[..., ::-1], 64, 48, layout="bgr", out=batch[1])
    assert out.base is batch
    assert (batch[1] == crop_resize(fundus(), fov, 64, 48)).all()
    assert not batch[0].any()


def test_the_environment_forces_the_reference() -> None:
    code = "from medtex_edge.image import geometry as g; print(g.native_available(), g._detect_fov.__module__)"
    environment = {**os.environ, "MEDTEX_EDGE_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "medtex_edge.image.reference"]


# --- real photographs


@needs_photographs
def test_the_same_eye_in_two_crops_of_its_photograph_gives_the_same_input() -> None:
    rows = list(csv.DictReader((DATA / "idrid_lesions/index.csv").open(encoding="utf-8")))
    pairs = [(row["image"], row["same_photo_in_idrid"]) for row in rows if row["same_photo_in_idrid"]]
    assert len(pairs) >= 20
    for cropped, whole in pairs:
        a, b = (
            prepare(cv2.imread(str(path)), 96, 96, layout="bgr")[0].astype(float)
            for path in (DATA / "idrid_lesions/images" / cropped, DATA / "idrid/images" / whole)
        )
        assert np.abs(a - b).mean() < 6, (cropped, whole)  # levels of 255; JPEG and two resizings lie between
        shifts = [np.abs(np.roll(a, by, axis=axis) - b)[8:-8, 8:-8].mean() for by in (-1, 1) for axis in (0, 1)]
        assert np.abs(a - b)[8:-8, 8:-8].mean() < min(shifts), (cropped, whole)  # not even one pixel of 96 apart


@needs_native
@needs_photographs
def test_native_and_reference_resize_real_photographs_to_the_same_pixels() -> None:
    for path in [*PHOTOGRAPHS[::20], *LESIONS[::5]]:
        image = cv2.imread(str(path))
        out, fov = prepare(image, 224, 224, layout="bgr")
        assert (out == reference(image, fov, 224, 224, layout="bgr")).all()
