from __future__ import annotations

import datetime
from typing import Any

import bundles
import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.image.geometry import FieldOfView
from medtex_edge.runtime.display import text
from medtex_edge.runtime.display.overlay import FAINTEST, Overlay, scale
from medtex_edge.runtime.reading import Reading, Reason, Verdict

HEIGHT, WIDTH = 480, 640
BOX = FieldOfView(80, 0, 480, 1.0)


def reading(saliency: npt.NDArray[np.float32] | None = None, **changes: Any) -> Reading:
    values: dict[str, Any] = {
        "source": "photos/eye.png", "frame": 7, "captured": datetime.datetime.now(datetime.timezone.utc),
        "age_ms": 12.0, "size": (WIDTH, HEIGHT), "verdict": Verdict.REFERABLE, "label": "severe",
        "probabilities": np.array([0.1, 0.2, 0.7], np.float32), "referable_probability": 0.7,
        "saliency": saliency, "field_of_view": BOX,
    }  # fmt: skip
    return Reading(**(values | changes))


def refused(**changes: Any) -> Reading:
    nothing = {"label": "", "probabilities": None, "referable_probability": None}
    return reading(verdict=Verdict.UNGRADABLE, reason=Reason.BLURRED, detail="too soft", **(nothing | changes))


def grey(level: int = 100) -> npt.NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def drawn(what: Reading, background: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    picture = grey() if background is None else background.copy()
    Overlay(bundles.contract()).draw(picture, what, None)
    return picture


def spot(row: int, column: int, value: float = 1.0) -> npt.NDArray[np.float32]:
    saliency = np.zeros((16, 16), np.float32)
    saliency[row, column] = value
    return saliency


def test_the_scale_is_fixed_and_rises() -> None:
    colour, alpha = scale()
    assert colour.shape == (256, 3)
    assert alpha[0] == 0
    assert (np.diff(alpha) >= 0).all()
    assert 0.4 < alpha[-1] < 0.7


def test_the_same_saliency_has_the_same_colour_whatever_else_is_in_the_map() -> None:
    alone, neighbour = spot(8, 8, 0.5), spot(8, 8, 0.5)
    neighbour[3, 12] = 1.0
    y, x = 8 * 30 + 15, 80 + 8 * 30 + 15
    first, second = drawn(reading(alone)), drawn(reading(neighbour))
    np.testing.assert_array_equal(first[y, x], second[y, x])
    assert not np.array_equal(first[y, x], grey()[y, x])


def test_a_blank_or_faint_map_leaves_the_picture_as_it_is() -> None:
    for level in (0.0, FAINTEST - 0.02):
        faint = drawn(reading(np.full((16, 16), level, np.float32)))
        np.testing.assert_array_equal(faint[150:400, 200:500], grey()[150:400, 200:500])


@pytest.mark.parametrize("box", [BOX, FieldOfView(-40, 60, 400, 0.8), FieldOfView(300, 200, 420, 0.6)])
def test_saliency_lands_on_its_place_in_the_box_and_nowhere_else(box: FieldOfView) -> None:
    base, marked = drawn(reading(np.zeros((16, 16), np.float32), field_of_view=box)), None
    marked = drawn(reading(spot(6, 7), field_of_view=box))
    changed = np.argwhere((base != marked).any(axis=2))
    cell = box.side / 16
    centre = np.array([box.top + 6.5 * cell, box.left + 7.5 * cell])
    assert len(changed) > 0
    # A cell fades to nothing at the centres of its neighbours.
    assert (np.abs(changed + 0.5 - centre) <= cell + 1).all()
    np.testing.assert_allclose(changed.mean(axis=0) + 0.5, centre, atol=1.5)


def test_a_box_outside_of_the_frame_draws_no_saliency() -> None:
    box = FieldOfView(2000, 2000, 100, 0.0)
    np.testing.assert_array_equal(
        drawn(reading(np.ones((16, 16), np.float32), field_of_view=box)),
        drawn(reading(np.zeros((16, 16), np.float32), field_of_view=box)),
    )


def test_verdicts_differ_in_colour() -> None:
    corners = {
        tuple(drawn(reading(verdict=verdict))[3, 3].tolist()) for verdict in (Verdict.REFERABLE, Verdict.NOT_REFERABLE)
    }
    assert len(corners) == 2


@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_panel_has_contrast_on_any_background(level: int) -> None:
    picture = drawn(reading(), grey(level))
    panel = picture[30:90, 4:100].astype(int).max(axis=2)
    assert np.percentile(panel, 99.5) - np.percentile(panel, 20) > 120


def test_an_ungradable_frame_is_unmissable_and_shows_no_saliency() -> None:
    plain = drawn(refused())
    # Stripes around, letters across the middle in the colour of a warning.
    warning = (plain == (0, 215, 255)).all(axis=2)
    assert warning[:10].mean() > 0.3
    assert warning[HEIGHT // 2 - 60 : HEIGHT // 2 + 20].mean() > 0.1
    assert warning.any(axis=0).sum() > WIDTH // 2
    below = plain[360:400, 100:540]
    np.testing.assert_array_equal(below, grey()[360:400, 100:540])


def test_a_picture_that_is_not_live_is_darkened_and_says_so() -> None:
    picture = drawn(reading(np.ones((16, 16), np.float32)), grey(200))
    before = picture.copy()
    Overlay(bundles.contract()).draw_not_live(picture, 3.2, "camera 0 is being opened again")
    assert picture[350, 320].max() < before[350, 320].max() // 2
    assert ((picture == (0, 215, 255)).all(axis=2)).sum() > 2000


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (20, 300), (300, 20), (1080, 1920)])
def test_pictures_of_every_size_can_be_drawn_into(shape: tuple[int, int]) -> None:
    overlay = Overlay(bundles.contract())
    for what in (reading(np.ones((16, 16), np.float32), field_of_view=FieldOfView(0, 0, min(shape), 1.0)), refused()):
        for rate in (None, 25.0):
            picture = np.zeros((*shape, 3), np.uint8)
            overlay.draw(picture, what, rate)
            overlay.draw_not_live(picture, 1.0, "why")


def test_names_of_every_alphabet_and_length_are_drawn() -> None:
    for label in ("ausgeprägt", "중증", "x" * 100):
        drawn(reading(label=label))


def test_opencv_4_draws_with_its_strokes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_font", lambda: None)
    text.width.cache_clear()
    assert text.plain("ausgeprägt") == "ausgepragt"
    assert (drawn(reading(label="ausgeprägt"))[:100, :160] != grey()[:100, :160]).any()
    drawn(refused())
    text.width.cache_clear()


def test_a_long_line_is_cut_to_its_space() -> None:
    assert text.fit("short", 16, 400) == "short"
    cut = text.fit("a very long name of a class that nobody can read", 16, 120)
    assert cut.endswith("...")
    assert text.width(cut, 16) <= 120
