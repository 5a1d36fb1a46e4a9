"""Reading datasets: the form is detected; tables, folders and npz files of real users are read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from dataset_kit import GRADES, error_of, load, splits
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_kit import class_folders, csv_dataset, eye, save, write_rows

from medtex_edge.errors import DataError

# --- the three forms -------------------------------------------------------------------------------------------


def test_a_csv_with_an_image_folder_is_read(tmp_path: Path) -> None:
    dataset = load(csv_dataset(tmp_path, GRADES))
    assert dataset.form == "csv"
    assert dataset.classes == ("0", "1", "2")
    assert dataset.ordered
    assert [sample.label for sample in dataset.samples] == [int(grade) for grade in GRADES]
    assert dataset.samples[0].key == "images/0.jpg"
    assert splits(dataset) == {"train": 6, "val": 3}
    assert "seed 0" in dataset.notes[0]
    assert np.abs(dataset.read(dataset.samples[0]).astype(int) - eye(0)).mean() < 5


def test_the_csv_itself_can_be_named(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    assert load(tmp_path / "labels.csv").fingerprint == load(tmp_path).fingerprint


def test_a_folder_per_class_is_read(tmp_path: Path) -> None:
    dataset = load(class_folders(tmp_path, {"sick": 3, "healthy": 3}))
    assert (dataset.form, dataset.classes, dataset.ordered) == ("folders", ("healthy", "sick"), False)
    assert splits(dataset) == {"train": 4, "val": 2}
    assert {sample.label for sample in dataset.of("val")} == {0, 1}


def test_numbered_class_folders_are_grades_in_their_order(tmp_path: Path) -> None:
    dataset = load(class_folders(tmp_path, {"10 worst": 2, "2_mild": 2, "0_none": 2}))
    assert dataset.classes == ("0_none", "2_mild", "10 worst")
    assert dataset.ordered


def test_class_folders_below_split_folders_keep_their_splits(tmp_path: Path) -> None:
    counts = {"Train/a": 2, "Train/b": 2, "validation/a": 1, "validation/b": 1, "test/a": 1}
    dataset = load(class_folders(tmp_path, counts))
    assert splits(dataset) == {"train": 4, "val": 2, "test": 1}
    assert dataset.notes == ()


def test_where_only_a_test_split_is_given_val_is_drawn_from_train(tmp_path: Path) -> None:
    dataset = load(class_folders(tmp_path, {"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2}))
    assert splits(dataset) == {"train": 6, "val": 2, "test": 4}
    assert all(sample.key.startswith("train/") for sample in dataset.of("val"))


def npz(path: Path, **arrays: np.ndarray) -> Path:
    random = np.random.default_rng(0)
    whole = {}
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        whole[f"{split}_images"] = random.integers(0, 255, (count, 28, 28, 3), np.uint8)
        whole[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    np.savez(path, **{name: array for name, array in (whole | arrays).items() if array is not None})
    return path


def test_a_medmnist_file_is_read_whole_without_a_field_of_view(tmp_path: Path) -> None:
    path = npz(tmp_path / "some.npz")
    for data in (path, tmp_path):
        dataset = load(data)
        assert (dataset.form, splits(dataset)) == ("npz", {"train": 8, "val": 4, "test": 4})
        sample = dataset.of("val")[2]
        assert sample.key == "val/2"
        image = dataset.read(sample)
        assert image.shape == (28, 28, 3)
        assert dataset.box(image).side == 28


def test_grey_medmnist_becomes_rgb(tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (8, 28, 28), np.uint8)
    dataset = load(npz(tmp_path / "grey.npz", train_images=grey))
    assert np.array_equal(dataset.read(dataset.of("train")[0])[..., 1], grey[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((8, 28, 28, 3), np.float32)}, "uint8"),
        ({"val_labels": np.zeros((3, 1), np.uint8)}, "expected 4 whole numbers"),
        ({"val_labels": np.zeros((4, 14), np.uint8)}, "14 labels per photograph"),
        ({"val_labels": None}, "no val_labels"),
        ({"train_images": None, "train_labels": None}, "train_images"),
        ({"train_images": np.array([object()] * 8)}, "not a whole .npz of plain arrays"),
    ],
)
def test_an_npz_that_is_no_medmnist_file_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    assert message in error_of(npz(tmp_path / "bad.npz", **change)).message  # type: ignore[arg-type]


@given(st.integers(0, 2000), st.integers(1, 255))
@settings(max_examples=40)
def test_a_damaged_npz_is_a_data_error_or_reads(
    tmp_path_factory: pytest.TempPathFactory, index: int, change: int
) -> None:
    path = npz(tmp_path_factory.mktemp("npz") / "x.npz")
    data = bytearray(path.read_bytes())
    data[-1 - index] ^= change  # the end, where the archive's directory is
    path.write_bytes(bytes(data[: len(data) - index // 50]))
    with suppress(DataError):
        load(path)


# --- tables as people make them --------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_byte_order_marks_are_accepted(tmp_path: Path, delimiter: str, encoding: str) -> None:
    csv_dataset(tmp_path, GRADES)
    rows = [f'"{i}.jpg"{delimiter} {grade}{delimiter}"a, b; c"' for i, grade in enumerate(GRADES)]
    write_rows(tmp_path / "labels.csv", f'image{delimiter}"label"{delimiter}remark', rows, encoding)
    assert len(load(tmp_path).samples) == 9


def test_excels_first_line_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    lines = [f"{i}.jpg;{grade}" for i, grade in enumerate(GRADES)]
    (tmp_path / "labels.csv").write_text("sep=;\r\nimage;label\r\n" + "\r\n\r\n".join(lines) + "\r\n;\r\n")
    assert len(load(tmp_path).samples) == 9


def test_names_without_suffix_or_with_backslashes_are_found(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    names = ["0", "images\\1.jpg", "images/2.jpg", *(f"{i}.jpg" for i in range(3, 9))]
    write_rows(tmp_path / "labels.csv", "image,label", [f"{name},{g}" for name, g in zip(names, GRADES, strict=True)])
    assert {sample.key for sample in load(tmp_path).samples} == {f"images/{i}.jpg" for i in range(9)}
    write_rows(tmp_path / "labels.csv", "image,label", [f"images\\{i},{g}" for i, g in enumerate(GRADES)])
    assert {sample.key for sample in load(tmp_path).samples} == {f"images/{i}.jpg" for i in range(9)}


def test_an_image_folder_elsewhere_can_be_named(tmp_path: Path) -> None:
    csv_dataset(tmp_path / "a", GRADES)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "labels.csv").rename(tmp_path / "b" / "labels.csv")
    dataset = load(tmp_path / "b", image_folder=str(tmp_path / "a" / "images"))
    assert dataset.samples[0].key == "0.jpg"
    assert "no such folder" in error_of(tmp_path / "b", image_folder="nowhere").message


def test_the_table_with_the_wanted_columns_is_chosen(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    write_rows(tmp_path / "boxes.csv", "image,kind", ["0.jpg,HE", "0.jpg,MA"])
    assert len(load(tmp_path).samples) == 9


def test_two_tables_with_the_wanted_columns_are_ambiguous(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    (tmp_path / "more.csv").write_bytes((tmp_path / "labels.csv").read_bytes())
    error = error_of(tmp_path)
    assert "labels.csv, more.csv" in error.message
    assert "--data" in error.hint


def test_a_missing_label_column_is_an_error_with_the_present_and_the_likely_columns(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES, header="image,grade")
    error = error_of(tmp_path)
    assert "'label'" in error.message
    assert "image, grade" in error.message
    assert error.hint == "perhaps --label-column grade"
    assert load(tmp_path, label_column="grade").classes == ("0", "1", "2")


def test_a_missing_image_column_names_the_nearest(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES, header="image_name,label")
    assert "--image-column image_name" in error_of(tmp_path).hint
    csv_dataset(tmp_path, GRADES, header="file,label")
    assert "--image-column file" in error_of(tmp_path).hint


def test_a_named_optional_column_must_be_there_and_once(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES, header="image,label,fold", extra=[",train"] * 9)
    error = error_of(tmp_path, split_column="folds")
    assert "fold" in error.hint
    assert "'folds'" in error.message
    csv_dataset(tmp_path, GRADES, header="image,label,label", extra=[",1"] * 9)
    assert "2 columns are called 'label'" in error_of(tmp_path).message


def test_class_names_are_unordered_and_empty_labels_unlabelled(tmp_path: Path) -> None:
    dataset = load(csv_dataset(tmp_path, ["none", "mild", "none", "mild", ""]))
    assert dataset.classes == ("mild", "none")
    assert not dataset.ordered
    assert [sample.label for sample in dataset.samples] == [1, 0, 1, 0, -1]
    assert dataset.samples[4].split == "train"


def test_grades_written_by_a_spreadsheet_are_whole_numbers(tmp_path: Path) -> None:
    assert load(csv_dataset(tmp_path, [f"{grade}.0" for grade in GRADES])).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"image,label\n", b"\xff\xff\x00\x01", b'image,label\n"a,0\n' + b"x" * 200_000]
)
def test_a_file_that_is_no_table_is_a_data_error(tmp_path: Path, text: bytes) -> None:
    save(tmp_path / "images" / "0.jpg", 0)
    (tmp_path / "labels.csv").write_bytes(text)
    error_of(tmp_path / "labels.csv")
