"""Leakage: masks that hold a code are found out, masks that are only larger on sick eyes are not."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest

from medtex_edge.evaluate.measures.leakage import arranged, features, leakage, obeys_mask, scattered

COUNT, SIDE = 80, 24
TRUTH = np.arange(COUNT) % 2 == 0


def soft_masks(areas: np.ndarray, seed: int, places: np.ndarray | None = None) -> np.ndarray:
    """Smooth blobs that open the given area each, at random places or drawn to `places`."""
    rng = np.random.default_rng(seed)
    masks = []
    for index, area in enumerate(areas):
        noise = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)), (0, 0), 2)
        if places is not None:
            noise = noise + 2 * noise.std() * places[index]
        masks.append(1 / (1 + np.exp(-(noise - np.quantile(noise, 1 - area)) / (0.2 * noise.std()))))
    return np.stack(masks).astype(np.float32)


def test_a_code_in_a_corner_is_readable_though_the_area_is_the_same() -> None:
    masks = soft_masks(np.full(COUNT, 0.2), seed=0)
    masks[TRUTH, :4, :4], masks[TRUTH, -4:, -4:] = 1, 0
    masks[~TRUTH, :4, :4], masks[~TRUTH, -4:, -4:] = 0, 1
    found = leakage(masks, TRUTH, repeats=1)
    assert found is not None
    assert found.auc_map > 0.97
    assert found.auc_area_matched < 0.72
    assert found.auc_shuffled < 0.72
    assert found.readable
    assert found.interval_difference[0] <= found.difference <= found.interval_difference[1]


def test_a_larger_area_on_sick_eyes_is_readable_and_is_no_leakage() -> None:
    masks = soft_masks(np.where(TRUTH, 0.3, 0.2) + np.random.default_rng(1).normal(0, 0.04, COUNT), seed=1)
    found = leakage(masks, TRUTH, repeats=1)
    assert found is not None
    assert min(found.auc_map, found.auc_shuffled, found.auc_area_matched) > 0.85
    assert not found.readable
    assert (found.n, found.positives) == (COUNT, COUNT // 2)


def test_masks_without_information_predict_nothing() -> None:
    found = leakage(soft_masks(np.full(COUNT, 0.2), seed=2), TRUTH, repeats=1)
    assert found is not None
    assert found.auc_map == pytest.approx(0.5, abs=0.2)
    assert not found.readable


def test_place_alone_is_distinguished_from_a_code_by_another_methods_map() -> None:
    # Lesions of sick eyes lie above, findings of healthy ones below; both methods see it, neither writes a code.
    y = np.linspace(-1, 1, SIDE)[:, None] * np.ones(SIDE)
    where = np.where(TRUTH[:, None, None], -y, y)
    masks, others = (soft_masks(np.full(COUNT, 0.2), seed=s, places=where) for s in (3, 4))
    found = leakage(masks, TRUTH, places=others.repeat(2, 1).repeat(2, 2), repeats=1)
    assert found is not None
    assert found.readable
    assert found.auc_place_matched == pytest.approx(found.auc_map, abs=0.05)
    assert asdict(found)["auc_place_matched"] == found.auc_place_matched


def test_too_few_of_a_class_is_no_answer() -> None:
    masks, few = soft_masks(np.full(30, 0.2), seed=5), np.arange(30) < 4
    assert leakage(masks, few) is None
    assert obeys_mask(lambda i, m: np.ones((len(i), 2)), np.zeros((30, 8, 8, 3), np.uint8), masks, few, (1,)) is None


def test_controls_keep_every_value_and_take_the_others_place() -> None:
    masks, others = soft_masks(np.linspace(0.1, 0.5, 6), seed=6), soft_masks(np.full(6, 0.3), seed=7)
    for control in (arranged(masks, others), scattered(masks, np.random.default_rng(0))):
        assert np.array_equal(np.sort(control.reshape(6, -1)), np.sort(masks.reshape(6, -1)))
        assert not np.array_equal(control, masks)
    placed = arranged(masks, others)
    for mask, other in zip(placed, others, strict=True):
        assert np.all(np.diff(mask.ravel()[np.argsort(other.ravel())]) >= 0)
    assert np.array_equal(arranged(masks, masks), masks)
    assert np.isfinite(features(np.zeros((2, SIDE, SIDE), np.float32))).all()


def test_a_student_that_obeys_its_mask_is_distinguished_from_one_that_reads_the_photograph() -> None:
    images = np.where(TRUTH[:, None, None, None], np.uint8(160), np.uint8(80)).repeat(96, 1).repeat(96, 2).repeat(3, 3)
    areas = np.where(TRUTH, 0.4, 0.2)
    masks = soft_masks(areas, seed=8)

    def two(score: np.ndarray) -> np.ndarray:
        return np.stack([1 - score, score], axis=1)

    reads_code = obeys_mask(lambda i, m: two(m.mean(axis=(1, 2))), images, masks, TRUTH, (1,), repeats=2)
    reads_photograph = obeys_mask(lambda i, m: two(i.mean(axis=(1, 2, 3)) / 255), images, masks, TRUTH, (1,), repeats=2)
    assert reads_code is not None
    assert reads_photograph is not None
    assert reads_code["value"] == pytest.approx(1)
    assert reads_photograph["auc_picture"] == pytest.approx(1)
    assert reads_photograph["interval"][0] < 0.5 < reads_photograph["interval"][1]
