"""What is measured of a frame: the native module says what the numpy reference says, to the last bit."""

from __future__ import annotations

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from frame_kit import VIEWS, as_layout
from hypothesis import given, settings
from hypothesis import strategies as st

from medtex_edge.image.geometry import LAYOUTS
from medtex_edge.runtime.display import pixels
from medtex_edge.runtime.quality import reference
from medtex_edge.runtime.quality.gate import SIDE

try:
    from medtex_edge import _native
except ImportError:
    _native = None  # type: ignore[assignment]

native = pytest.mark.skipif(_native is None, reason="the native module is not built here")
SHAPES = {
    "rgb": lambda h, w: (h, w, 3), "bgr": lambda h, w: (h, w, 3), "grey": lambda h, w: (h, w),
    "yuyv": lambda h, w: (2 * h, 2 * w, 2), "nv12": lambda h, w: (3 * h, 2 * w),
}  # fmt: skip


@native
@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(4, 64).map(lambda n: 4 * n),
    kind=st.sampled_from(["noise", "disc", "extreme"]),
    view=st.sampled_from(sorted(VIEWS)),
    seed=st.integers(0, 1000),
)
def test_the_native_facts_are_those_of_the_reference(side: int, kind: str, view: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    if kind == "disc":
        picture = bundles.disc(side, seed=seed % 5)
    else:
        picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    if kind == "extreme":
        picture = np.where(picture > rng.integers(0, 256), 255, 0).astype(np.uint8)
    mine, theirs = (np.full((side // 4, side // 4), np.nan, np.float32) for _ in range(2))
    view = VIEWS[view](picture)
    assert _native.quality_metrics(view, mine) == reference.quality_metrics(view, theirs)
    np.testing.assert_array_equal(mine, theirs)


@native
@settings(max_examples=100, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 90)),
    view=st.sampled_from(["packed", "upside down", "every second"]),
    seed=st.integers(0, 1000),
)
def test_the_native_glance_is_that_of_the_reference(layout: str, shape: tuple[int, int], view: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, SHAPES[layout](*shape), dtype=np.uint8) >> rng.integers(0, 5, dtype=np.uint8)
    if layout not in ("yuyv", "nv12"):  # whose rows are in one piece, in the camera's order
        frame = VIEWS[view](frame)
    assert _native.precheck_frame(frame, LAYOUTS[layout]) == reference.precheck_frame(frame, LAYOUTS[layout])


def test_a_glance_changes_with_any_byte_of_the_rows_that_it_looks_at() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 33, 3), dtype=np.uint8)
    digests = {reference.precheck_frame(frame, LAYOUTS["bgr"])[0]}
    for index in range(0, frame.size, 7):
        frame.reshape(-1)[index] ^= 1
        digests.add(reference.precheck_frame(frame, LAYOUTS["bgr"])[0])
    assert len(digests) == 1 + len(range(0, frame.size, 7))


def test_detail_is_that_of_binomial_blurs_by_another_hand() -> None:
    picture = np.ascontiguousarray(bundles.disc(SIDE, seed=3)[..., ::-1])
    structure = np.zeros((SIDE // 4, SIDE // 4), np.float32)
    sums = reference.Sums(*reference.quality_metrics(picture, structure))
    grey = cv2.transform(picture, np.array([[77, 150, 29]]) / 256).astype(np.float64)
    kernel = np.array([1, 4, 6, 4, 1]) / 16

    def blur(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)

    once = blur(grey)
    detail = once - blur(once)
    across = np.arange(SIDE) - (SIDE - 1) / 2
    disc = (across[:, None] ** 2 + across**2) < (0.45 * SIDE) ** 2
    top = picture.max(axis=2)
    inside = cv2.erode((disc & (top > 10)).astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0
    assert sums.disc == disc.sum()
    assert sums.inside == inside.sum()
    assert sums.top == top[inside].sum()
    deviation = np.sqrt(sums.fine_squares / sums.inside - (sums.fine / sums.inside) ** 2) / 16
    assert deviation == pytest.approx(detail[inside].std(), abs=0.03)


@pytest.mark.parametrize("layout", ["grey", "yuyv", "nv12"])
def test_a_raw_frame_is_shown_as_its_camera_meant_it(layout: str) -> None:
    frame = cv2.GaussianBlur(bundles.disc(96, width=128), (0, 0), 2)
    shown = pixels.to_bgr(as_layout(frame, layout), layout, None)
    meant = frame if layout != "grey" else np.repeat(as_layout(frame, "grey")[..., None], 3, axis=2)
    assert np.abs(shown.astype(int) - meant).mean() < 2
    assert pixels.to_bgr(as_layout(frame, layout), layout, shown) is shown
