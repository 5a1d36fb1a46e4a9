"""Deletion, insertion, ROAD and fidelity on models whose reading is known, and against other implementations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from medtex_edge.evaluate.measures.faithfulness import (
    Curves,
    TeacherLabels,
    cut,
    deletion,
    fidelity,
    insertion,
    order,
    predict_in_batches,
    teacher_labels,
    to_stride,
)
from medtex_edge.evaluate.measures.road import impute, road
from medtex_edge.train.metrics.intervals import bootstrap_mean, measured

SIZE, SIDE, COUNT = 64, 16, 6
WHERE = (slice(4, 8), slice(8, 12))  # of the mask: a sixteenth of it
AREA = 1 / 16


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)


def reads_one_region(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Sure of class 1 as far as the region is seen, and of class 0 where it is hidden."""
    seen = masks[:, WHERE[0], WHERE[1]].mean(axis=(1, 2))
    return np.stack([1 - seen, seen], axis=1)


LABELS = TeacherLabels(np.ones(COUNT, np.int64), np.array([True] * 4 + [False] * 2), (1,))


def perfect() -> np.ndarray:
    maps = np.zeros((COUNT, SIDE, SIDE), np.float32)
    maps[:, WHERE[0], WHERE[1]] = 1
    return maps


def test_a_perfect_map_deletes_at_once_and_an_inverted_one_last() -> None:
    # The probability falls from 1 to 0 in a straight line over the first sixteenth, or over the last.
    assert deletion(reads_one_region, images(), perfect(), LABELS).areas == pytest.approx(AREA / 2)
    assert insertion(reads_one_region, images(), perfect(), LABELS).areas == pytest.approx(1 - AREA / 2)
    assert deletion(reads_one_region, images(), -perfect(), LABELS).areas == pytest.approx(1 - AREA / 2)
    assert insertion(reads_one_region, images(), 7 - 3 * perfect(), LABELS).areas == pytest.approx(AREA / 2)


def test_a_uniform_map_is_a_fair_draw_and_not_the_order_of_storage() -> None:
    flat = np.full((60, SIDE, SIDE), 0.3, np.float32)
    pictures = np.zeros((60, SIZE, SIZE, 3), np.uint8)
    labels = TeacherLabels(np.ones(60, np.int64), np.ones(60, bool), (1,))
    for measure in (deletion, insertion):
        areas = measure(reads_one_region, pictures, flat, labels).areas
        assert areas.mean() == pytest.approx(0.5, abs=0.03)
        assert areas.std() > 0  # another draw for every photograph


def test_deletion_is_insertion_of_the_inverted_map_read_backwards() -> None:
    maps = np.random.default_rng(1).random((COUNT, SIDE, SIDE)).astype(np.float32)
    gone = deletion(reads_one_region, images(), maps, LABELS)
    come = insertion(reads_one_region, images(), -maps, LABELS)
    assert np.allclose(gone.label[:, ::-1], come.label)


def test_only_photographs_that_the_teacher_calls_referable_have_an_area_of_the_verdict() -> None:
    curves = deletion(reads_one_region, images(), perfect(), LABELS)
    assert isinstance(curves, Curves)
    assert np.isnan(curves.referable_areas).tolist() == [False] * 4 + [True] * 2
    assert curves.referable_areas[:4] == pytest.approx(AREA / 2)


def test_coarse_and_fine_maps_are_cut_in_pieces_of_one_size() -> None:
    fine = np.kron(perfect(), np.ones((1, 4, 4), np.float32))
    assert np.allclose(to_stride(fine, SIZE), perfect())
    assert deletion(reads_one_region, images(), fine, LABELS).areas == pytest.approx(AREA / 2)
    coarse = perfect()[:, 2::4, 2::4]  # 4 x 4: one cell is the region
    assert to_stride(coarse, SIZE).shape == (COUNT, SIDE, SIDE)
    assert deletion(reads_one_region, images(), coarse, LABELS).areas.max() < 0.2


def test_cutting_opens_the_wanted_area_of_each_map_and_its_best_part() -> None:
    maps = np.random.default_rng(2).random((COUNT, SIDE, SIDE)).astype(np.float32)
    areas = np.linspace(0, 1, COUNT)
    masks = cut(maps, areas)
    assert masks.mean(axis=(1, 2)) == pytest.approx(areas, abs=1 / SIDE**2)
    for map_, mask in zip(maps[1:-1], masks[1:-1], strict=True):
        assert map_[mask == 1].min() > map_[mask == 0].max()
    assert order(maps).reshape(COUNT, -1).min(axis=1).tolist() == [0] * COUNT


def test_fidelity_counts_kept_labels_and_kept_verdicts_apart() -> None:
    whole = np.array([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.9, 0.1, 0.0]])
    labels = teacher_labels(whole, (1, 2))
    assert labels.labels.tolist() == [1, 0, 2, 0]
    assert labels.referable.tolist() == [True, False, True, False]
    masked = np.array([[0.1, 0.3, 0.6], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.45, 0.30, 0.25]])
    masks = np.stack([np.full((4, 4), a, np.float32) for a in (0.1, 0.2, 0.3, 0.4)])
    found = fidelity(masked, masks, labels)
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.verdict.tolist() == [1, 1, 0, 0]
    assert np.nanmean(found.verdict_referable) == 0.5
    assert np.nanmean(found.area_referable) == pytest.approx(0.2)
    assert fidelity(masked, masks, labels, threshold=0.6).verdict.tolist() == [1, 1, 0, 1]


def reads_texture(pictures: np.ndarray) -> np.ndarray:
    """Class 1 where the region has the contrast of noise, of which an imputed region has next to none."""
    seen = (pictures[:, 16:32, 32:48].astype(float).std(axis=(1, 2, 3)) > 20).astype(float)
    return np.stack([1 - seen, seen], axis=1)


def test_road_rewards_the_region_that_is_read_and_punishes_its_inverse() -> None:
    assert road(reads_texture, images(), perfect(), LABELS).tolist() == [0.5] * COUNT
    assert road(reads_texture, images(), -perfect(), LABELS).tolist() == [-0.5] * COUNT
    # A flat map takes as much from the region first as last.
    assert road(reads_texture, images(), np.ones_like(perfect()), LABELS).tolist() == [0] * COUNT


def test_imputation_is_that_of_the_authors_code() -> None:
    imputers = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="pytorch-grad-cam is not installed")
    import torch

    image = cv2.GaussianBlur(images(3)[0], (0, 0), 2)
    removed = np.random.default_rng(4).random((SIDE, SIDE)) < 0.4
    removed[:4, :4] = True  # a corner, where neighbours are missing
    keep = 1 - cv2.resize(removed.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float()
    theirs = imputers.NoisyLinearImputer(noise=0)(tensor, torch.from_numpy(keep)).permute(1, 2, 0).numpy()
    ours = impute(image, removed)
    assert np.abs(ours - theirs).max() <= 0.51  # grey levels: ours are rounded
    assert np.array_equal(ours[keep == 1], image[keep == 1])
    noisy = impute(image, removed, np.random.default_rng(0)).astype(float) - ours
    assert noisy[keep == 0].std() == pytest.approx(2.5, rel=0.1)


def test_deletion_agrees_with_quantus() -> None:
    quantus = pytest.importorskip("quantus", reason="quantus is not installed")
    import torch

    class Net(torch.nn.Module):
        """Class 1 by the weighted detail that is left; hidden pixels are zero."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([-x.sum(dim=(1, 2, 3)), x.sum(dim=(1, 2, 3))], dim=1)

    rng = np.random.default_rng(5)
    detail = rng.normal(0, 0.3, (COUNT, 1, SIDE, SIDE)).astype(np.float32)
    maps = rng.random((COUNT, SIDE, SIDE)).astype(np.float32)
    net = Net().eval()

    def answers(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
        left = torch.from_numpy(detail[: len(masks)] * masks[:, None])
        return torch.softmax(net(left), dim=1).numpy()

    mine = deletion(answers, images(), maps, LABELS, steps=16).label
    metric = quantus.PixelFlipping(
        features_in_step=SIDE * SIDE // 16, perturb_baseline=0.0, normalise=False, abs=False, disable_warnings=True
    )
    theirs = np.asarray(
        metric(
            model=net, x_batch=detail, y_batch=LABELS.labels, a_batch=maps[:, None], softmax=True, channel_first=True
        )
    )
    assert np.allclose(mine[:, 1:], theirs, atol=1e-5)


def test_batches_do_not_change_the_answers() -> None:
    many = np.repeat(images(), 12, axis=0)
    masks = np.random.default_rng(6).random((len(many), SIDE, SIDE)).astype(np.float32)
    assert np.allclose(predict_in_batches(reads_one_region, many, masks), reads_one_region(many, masks))


def test_the_bootstrap_interval_is_that_of_the_mean_and_leaves_out_what_is_not_defined() -> None:
    values = np.random.default_rng(7).normal(2, 1, 400)
    value, (low, high) = bootstrap_mean(np.append(values, np.nan))
    assert value == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert bootstrap_mean(np.full(5, 0.25)) == (0.25, (0.25, 0.25))
    assert measured(np.array([np.nan])) is None
    with pytest.raises(ValueError, match="no photograph"):
        bootstrap_mean(np.array([np.nan]))
