"""Frames as cameras deliver them: grey, YUYV and NV12 give what their conversion to RGB would, without converting."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtex_edge.image import reference
from medtex_edge.image.geometry import LAYOUTS, FieldOfView, crop_resize, find_field_of_view, native_available

U8 = npt.NDArray[np.uint8]
needs_native = pytest.mark.skipif(not native_available(), reason="the native module is not built here")
boxes = st.builds(FieldOfView, st.integers(-60, 160), st.integers(-60, 160), st.integers(1, 200), st.just(1.0))


def fundus(height: int = 240, width: int = 320) -> U8:
    """A disc with soft structure in colours that limited-range YUV can hold."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    disc = np.hypot(y - height / 2, x - width / 2) < 0.45 * min(height, width)
    red = 150 + 40 * np.sin(x / 25) * np.cos(y / 31)
    picture = np.stack([red, red * 0.55 + 8, red * 0.3 + 12], axis=2)
    return np.where(disc[..., None], picture, 6).astype(np.uint8)


def as_layout(rgb: U8, layout: str) -> U8:
    """What a camera with that layout would deliver of `rgb` (H, W, 3), both sides even."""
    if layout in ("rgb", "bgr"):
        return np.ascontiguousarray(rgb[..., :: -1 if layout == "bgr" else 1])
    if layout == "grey":
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    height, width = rgb.shape[:2]
    luma = planes[:height]
    u, v = planes[height:].reshape(2, height // 2, width // 2)
    if layout == "nv12":
        return np.concatenate([luma, np.stack([u, v], axis=2).reshape(height // 2, width)])
    chroma = np.stack([u, v], axis=2).reshape(height // 2, width).repeat(2, axis=0)
    return np.ascontiguousarray(np.stack([luma, chroma], axis=2))


@st.composite
def noisy(draw: st.DrawFn) -> tuple[U8, str]:
    """Bytes without sense in any layout, rows not always in one piece."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layout = draw(st.sampled_from(["grey", "yuyv", "nv12"]))
    height, width = 2 * draw(st.integers(1, 60)), 2 * draw(st.integers(1, 60))
    shape = {"grey": (height, width), "yuyv": (height, width, 2), "nv12": (height // 2 * 3, width)}[layout]
    image = random.integers(0, 256, shape, dtype=np.uint8)
    if draw(st.booleans()):
        image = np.concatenate([image, image], axis=1)[:, :width]
    if layout == "grey" and draw(st.booleans()):
        image = image[::-1, ::-2]
    return image, layout


@needs_native
@given(noisy(), boxes, st.integers(1, 80), st.integers(1, 80))
def test_native_and_reference_resize_every_layout_to_the_same_pixels(
    given_frame: tuple[U8, str], box: FieldOfView, height: int, width: int
) -> None:
    image, layout = given_frame
    expected = np.empty((height, width, 3), np.uint8)
    reference.crop_resize(image, box.left, box.top, box.side, LAYOUTS[layout], expected)
    np.testing.assert_array_equal(crop_resize(image, box, height, width, layout=layout), expected)


@needs_native
@given(noisy())
def test_native_and_reference_look_at_every_layout_alike(given_frame: tuple[U8, str]) -> None:
    from medtex_edge import _native

    image, layout = given_frame
    assert _native.detect_fov(image, LAYOUTS[layout]) == tuple(reference.detect_fov(image, LAYOUTS[layout]))


@pytest.mark.parametrize("layout", ["bgr", "yuyv", "nv12"])
def test_a_cameras_frame_is_read_as_its_conversion_would_be(layout: str) -> None:
    rgb = fundus()
    frame = as_layout(rgb, layout)
    box, expected = find_field_of_view(frame, layout=layout), find_field_of_view(rgb)
    # Chroma of half the resolution may move an edge by a pixel.
    for a, b in zip((box.left, box.top, box.side), (expected.left, expected.top, expected.side), strict=True):
        assert abs(a - b) <= 2
    converted, wanted = (
        crop_resize(f, expected, 96, 96, layout=k).astype(int) for f, k in ((frame, layout), (rgb, "rgb"))
    )
    difference = np.abs(converted - wanted)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 12


@pytest.mark.parametrize("layout", ["yuyv", "nv12"])
def test_our_conversion_is_opencvs(layout: str) -> None:
    frame = as_layout(fundus(), layout)
    code = {"yuyv": cv2.COLOR_YUV2RGB_YUY2, "nv12": cv2.COLOR_YUV2RGB_NV12}[layout]
    converted = cv2.cvtColor(frame, code)
    same = crop_resize(frame, FieldOfView(40, 0, 240, 1.0), 240, 240, layout=layout)
    assert np.abs(same.astype(int) - converted[:, 40:280]).max() <= 1


def test_grey_is_three_equal_channels() -> None:
    grey = as_layout(fundus(), "grey")
    repeated = grey[..., None].repeat(3, axis=2)
    box = FieldOfView(-10, -20, 300, 1.0)
    np.testing.assert_array_equal(crop_resize(grey, box, 64, 80, layout="grey"), crop_resize(repeated, box, 64, 80))
    assert find_field_of_view(grey, layout="grey") == find_field_of_view(repeated)


@pytest.mark.parametrize("layout", ["grey", "yuyv", "nv12"])
def test_what_lies_beyond_the_frame_is_black(layout: str) -> None:
    frame = as_layout(np.full((64, 64, 3), 120, np.uint8), layout)
    out = crop_resize(frame, FieldOfView(-64, -64, 192, 1.0), 96, 96, layout=layout)
    assert not out[:31].any()
    assert not out[:, 65:].any()
    assert np.abs(out[34:62, 34:62].astype(int) - 120).max() <= 3


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("grey", (64, 64, 3)), ("yuyv", (64, 64)), ("yuyv", (64, 63, 2)), ("yuyv", (64, 64, 3)), ("nv12", (64, 64)),
     ("nv12", (96, 63)), ("rgb", (64, 64)), ("i420", (96, 64))],
)  # fmt: skip
def test_a_frame_that_does_not_fit_its_layout_is_refused(layout: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image|layout"):
        find_field_of_view(np.zeros(shape, np.uint8), layout=layout)


def test_bytes_of_a_pixel_that_are_torn_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="in one piece"):
        find_field_of_view(np.zeros((64, 128, 2), np.uint8)[:, ::2], layout="yuyv")
