"""The cache of cropped photographs: built once, checked always, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from photo_kit import SHARED, class_folders, save, small_disk

import medtex_edge.train.data.cache as cache_module
from medtex_edge.errors import DataError, StorageError
from medtex_edge.image.geometry import crop_resize, prepare
from medtex_edge.train.data.cache import load_photos
from medtex_edge.train.data.dataset import DataOptions, Dataset, load_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = class_folders(tmp_path_factory.mktemp("dataset"), {"train/a": 4, "train/b": 3, "val/a": 2, "val/b": 2})
    return load_dataset(folder, options=DataOptions())


def test_photographs_are_cropped_as_the_device_crops_them(dataset: Dataset, tmp_path: Path) -> None:
    photos = load_photos(dataset, "train", 64, cache=tmp_path)
    assert photos.images.shape == (7, 64, 64, 3)
    assert photos.images.dtype == np.uint8
    assert photos.labels.tolist() == [sample.label for sample in dataset.of("train")]
    assert photos.labels.dtype == np.int64
    assert photos.keys == tuple(sample.key for sample in dataset.of("train"))
    for image, sample in zip(photos.images, dataset.of("train"), strict=True):
        assert np.array_equal(image, prepare(dataset.read(sample), 64, 64)[0])


def test_a_second_reading_decodes_nothing(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_photos(dataset, "val", 48, cache=tmp_path)
    monkeypatch.setattr(cache_module, "crop_all", None)
    second = load_photos(dataset, "val", 48, cache=tmp_path)
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable
    assert np.array_equal(first.images, second.images)


def test_another_size_split_or_geometry_has_another_cache_file(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_photos(dataset, "val", 48, cache=tmp_path)
    load_photos(dataset, "val", 56, cache=tmp_path)
    load_photos(dataset, "train", 48, cache=tmp_path)
    monkeypatch.setattr(cache_module, "GEOMETRY", "another")
    load_photos(dataset, "val", 48, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "pickle", "no sum", "bad sum", "other shape"])
def test_a_damaged_cache_is_built_again(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    expected = np.array(load_photos(dataset, "val", 48, cache=tmp_path).images)
    (path,) = tmp_path.glob("*.npy")
    sums = path.with_suffix(".json")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-9] ^= 1
        path.write_bytes(bytes(data))
    elif damage in ("cut", "empty"):
        path.write_bytes(bytes(data[: len(data) // 2] if damage == "cut" else b""))
    elif damage in ("pickle", "other shape"):
        np.save(path, np.array([{}]) if damage == "pickle" else np.zeros((4, 9, 9, 3), np.uint8), allow_pickle=True)
        sums.write_text(json.dumps({"sha256": cache_module.sha256(path)}))
    elif damage == "no sum":
        sums.unlink()
    else:
        sums.write_bytes(b"\xff{")
    assert np.array_equal(load_photos(dataset, "val", 48, cache=tmp_path).images, expected)


def test_a_full_disk_is_an_error_and_no_part_of_the_cache_remains(dataset: Dataset, tmp_path: Path) -> None:
    with small_disk(20_000), pytest.raises(StorageError, match="cannot write") as caught:
        load_photos(dataset, "train", 64, cache=tmp_path / "cache")
    assert caught.value.hint
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file of that name")
    with pytest.raises(StorageError):
        load_photos(dataset, "val", 48, cache=tmp_path / "file" / "cache")


def test_a_photograph_that_changed_after_the_check_is_not_cached(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    dataset = load_dataset(folder, options=DataOptions())
    (folder / dataset.of("val")[1].key).write_bytes(b"gone bad")
    with pytest.raises(DataError, match="not an image"):
        load_photos(dataset, "val", 48, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_new_photograph_under_an_old_name_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    old = load_photos(load_dataset(folder, options=DataOptions()), "val", 48, cache=tmp_path / "cache")
    save(folder / old.keys[0], 77)
    new = load_photos(load_dataset(folder, options=DataOptions()), "val", 48, cache=tmp_path / "cache")
    assert not np.array_equal(old.images[0], new.images[0])
    assert np.array_equal(old.images[1], new.images[1])


def test_a_split_without_photographs_is_empty(dataset: Dataset, tmp_path: Path) -> None:
    photos = load_photos(dataset, "test", 48, cache=tmp_path)
    assert photos.images.shape == (0, 48, 48, 3)
    assert photos.labels.shape == (0,)
    with pytest.raises(ValueError, match="split"):
        load_photos(dataset, "tset", 48, cache=tmp_path)


def test_progress_is_counted(dataset: Dataset, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    load_photos(dataset, "train", 48, cache=tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 7) for done in range(1, 8)]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photographs (../shared/data) are not on this machine")
def test_the_whole_thumbnail_of_a_medmnist_file_is_its_field_of_view(tmp_path: Path) -> None:
    dataset = load_dataset(SHARED / "retinamnist", options=DataOptions())
    photos = load_photos(dataset, "val", 28, cache=tmp_path)
    with np.load(SHARED / "retinamnist" / "retinamnist.npz") as archive:
        assert np.array_equal(photos.images, archive["val_images"])
    larger = load_photos(dataset, "val", 56, cache=tmp_path)
    image = dataset.read(dataset.of("val")[0])
    assert np.array_equal(larger.images[0], crop_resize(image, dataset.box(image), 56, 56))
