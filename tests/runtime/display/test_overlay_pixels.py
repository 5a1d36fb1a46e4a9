"""Saliency into a frame: the native module draws what the numpy reference draws, to the last bit, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from frame_kit import VIEWS
from hypothesis import given, settings
from hypothesis import strategies as st

from medtex_edge.image.geometry import FieldOfView
from medtex_edge.runtime.display import pixels, reference
from medtex_edge.runtime.display.overlay import FAINTEST, blend_table, scale

try:
    from medtex_edge import _native
except ImportError:
    _native = None  # type: ignore[assignment]

U8 = npt.NDArray[np.uint8]
native = pytest.mark.skipif(_native is None, reason="the native module is not built here")


@native
@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    box=st.tuples(st.integers(-40, 60), st.integers(-40, 60), st.integers(1, 300)),
    view=st.sampled_from(sorted(VIEWS)),
    seed=st.integers(0, 1000),
)
def test_the_native_module_draws_what_the_reference_draws(
    shape: tuple[int, int], grid: tuple[int, int], box: tuple[int, int, int], view: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    saliency = rng.random(grid, np.float32) * np.float32(rng.choice([0.2, 1.0]))
    saliency[rng.random(grid) < 0.5] = 0
    mine, theirs = VIEWS[view](frame.copy()), VIEWS[view](frame.copy())
    _native.draw_saliency(mine, saliency, *box, blend_table())
    reference.draw_saliency(theirs, saliency, *box, blend_table())
    np.testing.assert_array_equal(mine, theirs)


@native
def test_a_transposed_map_and_a_part_of_a_frame_are_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    frame, saliency = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), rng.random((7, 9), np.float32)
    whole = frame.copy()
    _native.draw_saliency(whole[8:40, 4:60], saliency.T, 3, -2, 30, blend_table())
    expected = frame.copy()
    reference.draw_saliency(expected[8:40, 4:60], np.ascontiguousarray(saliency.T), 3, -2, 30, blend_table())
    np.testing.assert_array_equal(whole, expected)
    outside = np.ones(frame.shape[:2], bool)
    outside[8:40, 4:60] = False
    np.testing.assert_array_equal(whole[outside], frame[outside])


@pytest.mark.parametrize("value", [np.nan, -np.inf, -1.0, 0.0, FAINTEST - 0.01])
def test_what_is_no_saliency_changes_nothing(value: float) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    drawn = frame.copy()
    pixels.draw_saliency(drawn, np.full((5, 5), value, np.float32), FieldOfView(0, 0, 40, 1.0), blend_table())
    np.testing.assert_array_equal(drawn, frame)


@pytest.mark.parametrize("value", [1.0, 7.0, np.inf])
def test_full_saliency_has_the_scales_last_colour_and_opacity(value: float) -> None:
    drawn = np.full((32, 32, 3), 100, np.uint8)
    pixels.draw_saliency(drawn, np.full((4, 4), value, np.float32), FieldOfView(0, 0, 32, 1.0), blend_table())
    colour, alpha = scale()
    wanted = 100 * (1 - alpha[-1]) + colour[-1].astype(float) * alpha[-1]
    # The share kept is a whole number of 128ths.
    assert np.abs(drawn.astype(float) - wanted).max() <= 2


def test_a_map_is_enlarged_about_the_centres_of_its_cells() -> None:
    saliency = np.zeros((8, 8), np.float32)
    saliency[2, 5] = 1
    darker = np.zeros((256, 4), np.uint8)
    darker[:, 0] = 128 - np.arange(256) // 2
    for side in (80, 84, 400):  # pixels of their own, pairs, and fours down
        drawn = np.full((side, side, 3), 200, np.uint8)
        pixels.draw_saliency(drawn, saliency, FieldOfView(0, 0, side, 1.0), darker)
        strength = 200.0 - drawn[..., 0]
        y, x = np.mgrid[:side, :side] + 0.5
        cell = side / 8
        centre = ((y * strength).sum() / strength.sum(), (x * strength).sum() / strength.sum())
        assert centre == pytest.approx((2.5 * cell, 5.5 * cell), abs=0.2)
        assert strength[round(2.5 * cell), round(5.5 * cell)] == pytest.approx(199, abs=0.2 * 200)
        assert not strength[round(4 * cell) :].any()


def test_no_table_overflows() -> None:
    table = blend_table().astype(int)
    assert (((table[:, :1] * 255 + 64) >> 7) + table[:, 1:] <= 255).all()
    assert (table[0] == [128, 0, 0, 0]).all()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"frame": np.zeros((4, 4, 3), np.float32)}, TypeError),
        ({"frame": np.zeros((4, 4), np.uint8)}, ValueError),
        ({"saliency": np.zeros((0, 4), np.float32)}, ValueError),
        ({"saliency": np.zeros((4, 4), np.float64)}, TypeError),
        ({"box": FieldOfView(0, 0, 0, 1.0)}, ValueError),
        ({"box": FieldOfView(1 << 40, 0, 5, 1.0)}, ValueError),
        ({"table": np.zeros((256, 3), np.uint8)}, ValueError),
    ],
)
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    meant: dict[str, Any] = {
        "frame": np.zeros((8, 8, 3), np.uint8), "saliency": np.zeros((4, 4), np.float32),
        "box": FieldOfView(0, 0, 8, 1.0), "table": blend_table(),
    }  # fmt: skip
    with pytest.raises(error, match=next(iter(change))):
        pixels.draw_saliency(**{**meant, **change})
