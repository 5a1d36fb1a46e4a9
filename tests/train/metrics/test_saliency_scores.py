"""Scores of maps against lesion masks, per photograph and kind, on drawn cases and against Quantus."""

from __future__ import annotations

import numpy as np
import pytest

from medtex_edge.train.metrics.saliency import (
    dice_at_own_area,
    kind_scores,
    photograph_scores,
    pointing,
    relevance_mass,
    score_maps,
    summary,
)

SIDE = 224


def photographs(count: int = 3) -> np.ndarray:
    return np.full((count, SIDE, SIDE, 3), 90, np.uint8)


def squares(*corners: tuple[int, int] | None, side: int = 12) -> np.ndarray:
    masks = np.zeros((len(corners), SIDE, SIDE), bool)
    for mask, corner in zip(masks, corners, strict=True):
        if corner is not None:
            mask[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = True
    return masks


def grown(masks: np.ndarray) -> np.ndarray:
    """By two pixels, in which the dilation's round corners lie; and as a map."""
    larger = masks.copy()
    for down in range(-2, 3):
        for right in range(-2, 3):
            if down * down + right * right <= 4:
                larger |= np.roll(masks, (down, right), axis=(1, 2))
    return larger.astype(np.float32)


def test_perfect_uniform_and_inverted_maps_score_as_they_must() -> None:
    lesions = squares((30, 40), (80, 90), (150, 20))
    perfect = grown(lesions)
    share = perfect[0].mean()
    best = photograph_scores(perfect, photographs(), lesions)
    flat = photograph_scores(np.full_like(perfect, 0.3), photographs(), lesions)
    worst = photograph_scores(1 - perfect, photographs(), lesions)
    expected = {
        "pixel_auc": (1, 0.5, 0),
        "dice": (1, share, 0),
        "relevance_mass": (1, share, 0),
        "relevance": (1 / share, 1, 0),
    }
    for key, values in expected.items():
        for found, value in zip((best, flat, worst), values, strict=True):
            assert found[key] == pytest.approx(value, abs=1e-6, rel=1e-5), key
    assert best["pointing"].tolist() == [1, 1, 1]
    assert worst["pointing"].max() < 0.02
    # A flat map points at every pixel: what counts is how much of the photograph lies within reach.
    assert 0.005 < flat["pointing"][0] < 0.03


def test_ties_are_a_fair_draw_wherever_the_lesion_lies() -> None:
    visible = np.ones((20, 20), bool)
    saliency = np.zeros((20, 20), np.float32)
    saliency[0, :10] = 1  # ten pixels hold the maximum
    for start in (0, 6):
        lesion = np.zeros((20, 20), bool)
        lesion[0, start : start + 4] = True
        assert pointing(saliency, lesion, visible, 0) == pytest.approx(0.4)
        assert dice_at_own_area(saliency, lesion, visible) == pytest.approx(0.4)


def test_a_map_that_finds_one_kind_is_not_blamed_for_the_others() -> None:
    masks = {
        "MA": squares((30, 40), None, (150, 20)),
        "EX": squares((100, 100), (60, 60), None),
        "OD": squares((180, 180), (180, 180), (180, 180)),
    }
    masks["ALL"] = masks["MA"] | masks["EX"]
    maps = grown(masks["MA"]) + 0.5 * grown(masks["EX"])
    scores = kind_scores(maps, photographs(), masks)
    assert set(scores) == {"MA", "EX"}
    assert np.isnan(scores["MA"]["pixel_auc"]).tolist() == [False, True, False]
    assert np.isnan(scores["EX"]["dice"]).tolist() == [False, False, True]
    for kind in ("MA", "EX"):
        for key in ("pixel_auc", "pointing", "dice", "relevance_mass"):
            assert np.nanmin(scores[kind][key]) == pytest.approx(1), (kind, key)
    blamed = photograph_scores(maps, photographs(), masks["EX"])
    assert blamed["dice"][0] < 0.1  # on the first photograph the microaneurysm is more salient


def test_what_lies_outside_the_fundus_never_counts() -> None:
    images, lesions = photographs(1), squares((100, 100))
    images[:, :, :60] = 0
    maps = grown(lesions)
    maps[:, :, :60] = 5
    found = photograph_scores(maps, images, lesions)
    assert found["pixel_auc"][0] == found["pointing"][0] == found["relevance_mass"][0] == 1


def test_tolerances_grow_with_the_photograph() -> None:
    for factor, side in ((1, 224), (2, 448)):
        images = np.full((1, side, side, 3), 90, np.uint8)
        lesion = np.zeros((1, side, side), bool)
        lesion[0, 100 * factor, 100 * factor] = True
        hits = []
        for distance in (7, 10):
            saliency = np.zeros((1, side, side), np.float32)
            saliency[0, 100 * factor, (100 + distance) * factor] = 1
            hits.append(photograph_scores(saliency, images, lesion)["pointing"][0])
        assert hits == [1, 0]


def test_a_summary_has_intervals_and_leaves_out_what_was_never_there() -> None:
    lesions = squares((30, 40), (80, 90), None)
    maps = np.random.default_rng(0).random((3, 56, 56)).astype(np.float32)
    scores = photograph_scores(maps, photographs(), lesions)
    table = summary(scores)
    assert table["pixel_auc"]["n"] == 2
    low, high = table["pixel_auc"]["interval"]
    assert low <= table["pixel_auc"]["value"] <= high
    means = score_maps(maps, photographs(), lesions)
    assert means["pixel_auc"] == pytest.approx(table["pixel_auc"]["value"])
    assert means["relevance_over_chance"] == pytest.approx(table["relevance"]["value"])
    assert summary(photograph_scores(maps, photographs(), squares(None, None, None))) == {}


def test_scores_are_those_of_quantus() -> None:
    quantus = pytest.importorskip("quantus", reason="quantus is not installed")
    rng = np.random.default_rng(1)
    maps, lesions = rng.random((4, 32, 32)).astype(np.float32), rng.random((4, 32, 32)) < 0.1
    visible = np.ones((32, 32), bool)
    settings = {"normalise": False, "abs": False, "disable_warnings": True}
    batch = {
        "model": None, "x_batch": maps[:, None], "y_batch": np.zeros(4, int),
        "a_batch": maps[:, None], "s_batch": lesions[:, None],
    }  # fmt: skip
    pairs = {
        relevance_mass: quantus.RelevanceMassAccuracy(**settings),
        dice_at_own_area: quantus.RelevanceRankAccuracy(**settings),
    }
    for ours, metric in pairs.items():
        mine = [ours(m, lesion, visible) for m, lesion in zip(maps, lesions, strict=True)]
        assert mine == pytest.approx(metric(**batch), abs=1e-5)
