"""The field of view: its box in a frame, the refusal of a frame without one; numpy reference and native alike."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from geometry_kit import LESIONS, PHOTOGRAPHS, U8, frames, fundus, needs_native, needs_photographs, noise
from hypothesis import given
from hypothesis import strategies as st

from medtex_edge.errors import ImageError, NoFieldOfView
from medtex_edge.image import reference
from medtex_edge.image.geometry import LAYOUTS, FieldOfView, find_field_of_view, native_available


def centre_and_side(fov: FieldOfView) -> npt.NDArray[np.float64]:
    return np.array((fov.left + fov.side / 2, fov.top + fov.side / 2, fov.side))


def assert_box(image: U8, x: float, y: float, side: float, tolerance: float = 0.012) -> None:
    found = centre_and_side(find_field_of_view(image))
    assert np.abs(found - (x, y, side)).max() <= max(1.5, tolerance * side), (found, (x, y, side))


# --- where the disc is


def test_a_disc_cut_off_at_top_and_bottom_gets_a_box_that_reaches_beyond_the_frame() -> None:
    fov = find_field_of_view(fundus())
    assert_box(fundus(), 225, 160, 380)
    assert fov.top < 0
    assert fov.top + fov.side > 320
    assert fov.coverage == pytest.approx(0.92, abs=0.02)


def test_a_whole_disc_is_covered_whole() -> None:
    fov = find_field_of_view(fundus(radius=120))
    assert_box(fundus(radius=120), 225, 160, 240)
    assert fov.coverage > 0.97


@given(
    st.floats(150, 330), st.floats(110, 210), st.floats(90, 210), st.sampled_from([1, 0.6, 0.3]),
    st.sampled_from([(0, 0, 0), (18, 18, 18), (10, 12, 45)]), st.integers(0, 99),
)  # fmt: skip
def test_the_box_follows_the_disc(
    x: float, y: float, radius: float, gain: float, border: tuple[int, int, int], seed: int
) -> None:
    image = fundus(x=x, y=y, radius=radius, gain=gain, border=border, seed=seed)
    try:
        assert_box(image, x, y, 2 * radius)
    except NoFieldOfView:
        # A disc whose brightest channel is no brighter than the border's may be refused, but never be misplaced.
        assert image[int(min(y, 319)), int(x)].max() <= max(border) + 20


@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(0, 99))
def test_a_disc_that_moves_takes_its_box_along(dx: int, dy: int, seed: int) -> None:
    still = fundus(radius=110, noise=0, seed=seed)
    moved = np.full_like(still, 4)
    moved[40 + dy : 280 + dy, 100 + dx : 350 + dx] = still[40:280, 100:350]
    difference = centre_and_side(find_field_of_view(moved)) - centre_and_side(find_field_of_view(still))
    assert np.abs(difference - (dx, dy, 0)).max() <= 1


@given(st.integers(0, 99), st.booleans(), st.integers(320, 331), st.integers(480, 491))
def test_a_mirrored_frame_has_the_mirrored_box(seed: int, vertical: bool, height: int, width: int) -> None:
    image = fundus(height, width, seed=seed)
    plain = centre_and_side(find_field_of_view(image))
    mirrored = centre_and_side(find_field_of_view(image[::-1] if vertical else image[:, ::-1]))
    if vertical:
        mirrored[1] = height - mirrored[1]
    else:
        mirrored[0] = width - mirrored[0]
    assert np.abs(plain - mirrored).max() <= 1


@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 4, 6.25])
def test_a_larger_frame_of_the_same_disc_has_the_box_in_proportion(scale: float) -> None:
    image = cv2.resize(fundus(), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    assert_box(image, 225 * scale, 160 * scale, 380 * scale)


def test_the_order_of_the_channels_does_not_matter() -> None:
    assert find_field_of_view(fundus()) == find_field_of_view(fundus()[..., ::-1])


def jpeg(image: U8, quality: int) -> U8:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


def tilted(image: U8) -> U8:
    fall = np.clip(np.linspace(-0.05, 1, image.shape[1]), 0.06, 1)[:, None]
    return (image * fall).astype(np.uint8)


def with_text(image: U8) -> U8:
    image = image.copy()
    for x, y in ((5, 20), (5, 310), (370, 20), (370, 310)):
        cv2.putText(image, "12:30:07 OD", (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return image


def with_hot_pixels(image: U8) -> U8:
    image = image.copy()
    image[np.random.default_rng(1).random(image.shape[:2]) < 0.02] = 255
    return image


def with_eyelid(image: U8) -> U8:
    image = image.copy()
    image[:110] //= 30
    return image


def with_glow(image: U8) -> U8:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    beyond = np.hypot(columns - 225, rows - 160) - 190
    glow = 45 * np.exp(-np.maximum(beyond, 0) / 25) * (beyond > 0)
    return np.clip(image + glow[..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: jpeg(np.maximum(image, 18), 40),
        lambda image: (image * 0.3).astype(np.uint8),
        lambda image: np.clip(image * 2.5, 0, 255).astype(np.uint8),
        lambda image: cv2.GaussianBlur(image, (0, 0), 5),
        lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
        tilted, with_text, with_hot_pixels, with_eyelid, with_glow,
    ],
    ids=["grey-jpeg", "dark", "overexposed", "blurred", "greyscale", "tilted", "text", "hot", "eyelid", "glow"],
)  # fmt: skip
def test_a_spoilt_photograph_keeps_its_box(spoil: Callable[[U8], U8]) -> None:
    assert_box(spoil(fundus()), 225, 160, 380)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(slice(0, 320), slice(0, 330)), (slice(0, 270), slice(90, 480)), (slice(30, 200), slice(0, 480))],
    ids=["right", "left-and-below", "strip"],
)
def test_a_disc_that_the_frame_cuts_off_is_completed(rows: slice, columns: slice) -> None:
    image = fundus()[rows, columns]
    assert_box(image, 225 - columns.start, 160 - rows.start, 380, tolerance=0.03)


def test_a_photograph_cropped_to_the_retina_is_its_own_field_of_view() -> None:
    inside = fundus(800, 800, 400, 400, 700)[100:700, 150:650]
    assert find_field_of_view(inside) == FieldOfView(-50, 0, 600, pytest.approx(0.95, abs=0.05))


def test_black_bars_next_to_a_cropped_photograph_are_left_out() -> None:
    image = np.zeros((400, 700, 3), np.uint8)
    image[:, 130:570] = fundus(800, 800, 400, 400, 700)[200:600, 180:620]
    assert_box(image, 350, 200, 440)


# --- frames without one


def specks() -> U8:
    image = np.zeros((240, 320, 3), np.uint8)
    image[8::40, 8::40] = image[9::40, 8::40] = 255
    for y in range(20, 240, 60):
        for x in range(20, 320, 60):
            cv2.circle(image, (x, y), 9, (200, 120, 60), -1)
    return image


def ring() -> U8:
    image = np.zeros((240, 320, 3), np.uint8)
    return np.asarray(cv2.circle(image, (160, 120), 100, (200, 120, 60), 9), np.uint8)


@pytest.mark.parametrize(
    ("image", "pattern"),
    [
        (np.zeros((240, 320, 3), np.uint8), "it is black"),
        (noise(0, 12), "it is black"),
        (np.full((240, 320, 3), 128, np.uint8), "evenly grey, about 128"),
        (np.full((240, 320, 3), 255, np.uint8), "overfilled"),
        (noise(0, 256), "noise"),
        (noise(0, 60), "noise"),
        (specks(), "scattered"),
        (ring(), "disc, of which only"),
        (fundus()[:20, 200:230], "at least 32 pixels a side, got 20"),
        (np.full((1, 1, 3), 200, np.uint8), "got 1"),
        (fundus()[100:140], "a strip 12 times"),
        (np.repeat(np.linspace(14, 31, 320, dtype=np.uint8)[None, :, None], 240, 0).repeat(3, 2), "stands out"),
    ],
    ids=["black", "dark", "grey", "white", "noise", "dark-noise", "specks", "ring", "small", "pixel", "strip", "faint"],
)
def test_a_frame_without_a_field_of_view_is_refused_with_a_description_of_it(image: U8, pattern: str) -> None:
    with pytest.raises(NoFieldOfView, match=pattern) as caught:
        find_field_of_view(image)
    assert caught.value.hint
    assert isinstance(caught.value, ImageError)
    if native_available():
        assert_same_detection(image)


# --- the native module and its reference


def assert_same_detection(image: U8, layout: str = "rgb") -> None:
    from medtex_edge import _native

    number = LAYOUTS[layout]
    assert _native.detect_fov(image, number) == tuple(reference.detect_fov(image, number))


@needs_native
@given(frames())
def test_native_and_reference_find_the_same_box_or_refuse_alike(image: U8) -> None:
    assert_same_detection(image)


# --- real photographs


@needs_photographs
def test_every_photograph_of_one_camera_gets_the_same_box_within_a_percent() -> None:
    found = np.array([centre_and_side(find_field_of_view(cv2.imread(str(path)))) for path in PHOTOGRAPHS])
    assert len(found) == 398
    # This camera's disc stands at the same place in every photograph.
    assert np.abs(found - np.median(found, axis=0)).max() <= 0.01 * 384
    assert np.abs(np.median(found, axis=0) - (222.5, 159.5, 383.5)).max() <= 1.5


@needs_native
@needs_photographs
def test_native_and_reference_find_the_same_box_in_real_photographs() -> None:
    for path in [*PHOTOGRAPHS[::20], *LESIONS[::5]]:
        assert_same_detection(cv2.imread(str(path)))
