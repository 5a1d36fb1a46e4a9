"""The image geometry: the box of the field of view, and crop and resize; numpy reference and native alike."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medtex_edge.errors import ImageError, NoFieldOfView
from medtex_edge.image import reference as image_numpy
from medtex_edge.image.geometry import LAYOUTS, FieldOfView, crop_resize, find_field_of_view, native_available, prepare

U8 = npt.NDArray[np.uint8]
DATA = Path(__file__).parents[3] / "../shared/data"
PHOTOGRAPHS = sorted((DATA / "idrid/images").glob("*.jpg"))
LESIONS = sorted((DATA / "idrid_lesions/images").glob("*.png"))

needs_native = pytest.mark.skipif(not native_available(), reason="the native module is not built here")
needs_photographs = pytest.mark.skipif(not PHOTOGRAPHS, reason="the photographs of ../shared/data are not here")


def fundus(
    height: int = 320, width: int = 480, x: float = 225, y: float = 160, radius: float = 190, *,
    border: tuple[int, int, int] = (4, 4, 4), noise: float = 2, gain: float = 1, seed: int = 0,
) -> U8:  # fmt: skip
    """A textured disc, RGB, centred on (x, y) in continuous pixel coordinates."""
    random = np.random.default_rng(seed)
    texture = cv2.resize(random.integers(90, 200, (12, 16, 3), dtype=np.uint8), (width, height)) * (1.0, 0.6, 0.3)
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)[..., None]
    picture = inside * texture * gain + (1 - inside) * border + random.normal(0, noise, (height, width, 3))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


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


def test_black_bars_beside_a_cropped_photograph_are_left_out() -> None:
    image = np.zeros((400, 700, 3), np.uint8)
    image[:, 130:570] = fundus(800, 800, 400, 400, 700)[200:600, 180:620]
    assert_box(image, 350, 200, 440)


# --- frames without one


def noise(low: int, high: int) -> U8:
    return np.random.default_rng(0).integers(low, high, (240, 320, 3), dtype=np.uint8)


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
def test_a_frame_without_a_field_of_view_is_refused_with_what_was_seen(image: U8, pattern: str) -> None:
    with pytest.raises(NoFieldOfView, match=pattern) as caught:
        find_field_of_view(image)
    assert caught.value.hint
    assert isinstance(caught.value, ImageError)
    if native_available():
        assert_same_look(image)


# --- the native module and its reference


def assert_same_look(image: U8, layout: str = "rgb") -> None:
    from medtex_edge import _native

    number = LAYOUTS[layout]
    assert _native.detect_fov(image, number) == tuple(image_numpy.detect_fov(image, number))


@st.composite
def frames(draw: st.DrawFn) -> U8:
    """Discs, patches and noise of any size, seen through any strides."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    kind = draw(st.sampled_from(["disc", "discs", "patches", "noise"]))
    if kind == "noise":
        image = random.integers(0, draw(st.integers(2, 256)), (height, width, 3), dtype=np.uint8)
    elif kind == "patches":
        patches = random.integers(0, 256, (*random.integers(1, 20, 2), 3), dtype=np.uint8)
        image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        image = np.clip(random.normal(random.integers(0, 60, 3), random.uniform(0, 8), (height, width, 3)), 0, 255)
        image = image.astype(np.uint8)
        for _ in range(1 if kind == "disc" else 3):
            centre = int(random.integers(0, width)), int(random.integers(0, height))
            colour = [int(value) for value in random.integers(20, 256, 3)]
            cv2.circle(image, centre, int(random.integers(1, max(height, width) + 1)), colour, -1)
    y, x, c = (draw(st.sampled_from(steps)) for steps in ((1, 2, -1, -3), (1, 3, -1, -2), (1, -1)))
    return image[::y, ::x, ::c]


@needs_native
@given(frames())
def test_native_and_reference_find_the_same_box_or_refuse_alike(image: U8) -> None:
    assert_same_look(image)


boxes = st.builds(
    FieldOfView, st.integers(-150, 400), st.integers(-150, 400), st.integers(1, 500), st.just(1.0)
)  # fmt: skip


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
        assert (store == 77).all()  # nothing beside `out` was written


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
def test_the_reference_does_what_the_definition_says(
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
def test_every_photograph_of_one_camera_gets_the_same_box_within_a_percent() -> None:
    found = np.array([centre_and_side(find_field_of_view(cv2.imread(str(path)))) for path in PHOTOGRAPHS])
    assert len(found) == 398
    # This camera's disc stands at the same place in every photograph.
    assert np.abs(found - np.median(found, axis=0)).max() <= 0.01 * 384
    assert np.abs(np.median(found, axis=0) - (222.5, 159.5, 383.5)).max() <= 1.5


@needs_photographs
def test_the_same_eye_in_two_crops_of_its_photograph_looks_the_same() -> None:
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
def test_native_and_reference_agree_on_real_photographs() -> None:
    for path in [*PHOTOGRAPHS[::20], *LESIONS[::5]]:
        image = cv2.imread(str(path))
        assert_same_look(image)
        out, fov = prepare(image, 224, 224, layout="bgr")
        assert (out == reference(image, fov, 224, 224, layout="bgr")).all()
