"""Lesion masks go through the same box as their photographs, and lose no pixel that matters."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_kit import SHARED, encode, eye

from medtex_edge.errors import DataError
from medtex_edge.image.geometry import prepare
from medtex_edge.train.data.lesions import KINDS, LESIONS, load_lesions
from medtex_edge.train.synthetic.dataset import write_dataset


def layout(folder: Path, image: np.ndarray, masks: dict[str, np.ndarray], name: str = "a") -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    (folder / "images" / f"{name}.png").write_bytes(encode(".png", image))
    for kind, mask in masks.items():
        (folder / "masks" / f"{name}_{kind}.png").write_bytes(encode(".png", mask.astype(np.uint8) * 255))
    return folder


def test_synthetic_masks_load_with_their_photographs(tmp_path: Path) -> None:
    lesions = load_lesions(write_dataset(tmp_path / "c", count=10, size=128, seed=2), 96)
    assert lesions.images.shape == (10, 96, 96, 3)
    assert set(lesions.masks) == set(KINDS)
    for mask in lesions.masks.values():
        assert (mask.shape, mask.dtype) == ((10, 96, 96), np.bool_)
    union = np.logical_or.reduce([lesions.masks[kind] for kind in LESIONS])
    assert np.array_equal(lesions.masks["ALL"], union)
    assert lesions.masks["OD"].any(axis=(1, 2)).all()
    assert lesions.masks["ALL"].any(axis=(1, 2)).sum() == 8  # two healthy eyes


def test_a_mask_lies_where_its_lesion_is_visible(tmp_path: Path) -> None:
    image = eye(3, 160).copy()
    height, width = image.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 2 - 6 : height // 2 + 6, width // 2 + 9 : width // 2 + 21] = True
    image[mask] = (0, 255, 0)
    lesions = load_lesions(layout(tmp_path, image, {"HE": mask}), 224)
    green = lesions.images[0].astype(int)
    visible = green[..., 1] - green[..., 0] > 100
    overlap = (visible & lesions.masks["HE"][0]).sum() / (visible | lesions.masks["HE"][0]).sum()
    assert overlap > 0.75  # a pixel that shows any of the lesion belongs to it
    assert np.array_equal(lesions.masks["ALL"], lesions.masks["HE"])
    assert not lesions.masks["EX"].any()


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([16, 64, 224]))
@settings(max_examples=15, deadline=None)
def test_a_lesion_of_one_pixel_survives_any_shrinking(
    tmp_path_factory: pytest.TempPathFactory, row: int, column: int, size: int
) -> None:
    image = eye(5, 600)
    height, width = image.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 2 - 200 + row % min(400, height - 1), width // 2 - 200 + column] = True
    folder = layout(tmp_path_factory.mktemp("one"), image, {"MA": mask})
    found = load_lesions(folder, size).masks["MA"][0]
    assert 1 <= found.sum() <= 9


def test_a_given_union_is_used_unchanged(tmp_path: Path) -> None:
    image = eye(3, 128)
    everything = np.ones(image.shape[:2], bool)
    lesions = load_lesions(layout(tmp_path, image, {"ALL": everything}), 64)
    assert lesions.masks["ALL"].mean() > 0.6
    assert not any(lesions.masks[kind].any() for kind in LESIONS)
    assert np.array_equal(lesions.images[0], prepare(image, 64, 64)[0])


def test_all_problems_are_named_in_one_error(tmp_path: Path) -> None:
    image = eye(3, 128)
    layout(tmp_path, image, {}, "bare")
    layout(tmp_path, image, {"MA": np.zeros((5, 7), bool)}, "small")
    layout(tmp_path, np.zeros((64, 64, 3), np.uint8), {"MA": np.zeros((64, 64), bool)}, "black")
    (tmp_path / "images" / "text.jpg").write_text("hello")
    with pytest.raises(DataError) as caught:
        load_lesions(tmp_path, 64)
    message = caught.value.message
    for text in (
        "4 problems",
        "bare.png: no masks",
        "small_MA.png: 7 x 5 pixels",
        "black.png: no field of view",
        "text.jpg",
    ):
        assert text in message


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images/ and masks/"):
        load_lesions(tmp_path, 64)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="no photographs"):
        load_lesions(tmp_path, 64)
    for suffix in (".png", ".jpg"):
        (tmp_path / "images" / f"a{suffix}").write_bytes(encode(suffix, eye(1)))
    with pytest.raises(DataError, match="several photographs are called a"):
        load_lesions(tmp_path, 64)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photographs (../shared/data) are not on this machine")
def test_the_real_masks_load_and_lie_in_their_photographs() -> None:
    lesions = load_lesions(SHARED / "idrid_lesions", 224)
    assert len(lesions.keys) == 34
    assert lesions.masks["MA"].any(axis=(1, 2)).all()
    # Hard exudates are brighter than what surrounds them.
    for image, mask in zip(lesions.images, lesions.masks["EX"], strict=True):
        green = cv2.GaussianBlur(image[..., 1], (0, 0), 1).astype(int)
        ring = (cv2.dilate(mask.astype(np.uint8), np.ones((15, 15))) > 0) & ~mask
        assert green[mask].mean() > green[ring].mean()
