"""Datasets: all problems are reported in one error, and can be accepted by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_kit import GRADES, error_of, load, splits
from photo_kit import SHARED, class_folders, csv_dataset, encode, save, write_rows

from medtex_edge.errors import SettingsError
from medtex_edge.train.data.dataset import DataOptions

needs_photographs = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real photographs (../shared/data) are not on this machine"
)


def test_all_kinds_of_problems_come_in_one_error_with_the_flags_that_accept_them(tmp_path: Path) -> None:
    given = ["train"] * 6 + ["val"] * 3
    csv_dataset(
        tmp_path, GRADES, header="image,label,split,patient", extra=[f",{s},p{i % 6}" for i, s in enumerate(given)]
    )
    images = tmp_path / "images"
    (images / "6.jpg").write_bytes((images / "0.jpg").read_bytes())
    (images / "1.jpg").write_text("not a picture")
    (images / "2.jpg").unlink()
    (images / "3.jpg").write_bytes((images / "3.jpg").read_bytes()[:-500])
    (images / "4.jpg").write_bytes(encode(".jpg", np.zeros((64, 64, 3), np.uint8)))
    error = error_of(tmp_path)
    for text in (
        "images/1.jpg: not an image", "images/2.jpg: there is no such file (labels.csv line 4)",
        "images/3.jpg: the JPEG is cut off", "images/4.jpg: no field of view",
        "images/0.jpg (train), images/6.jpg (val)", "patient p0 is in train and val",
    ):  # fmt: skip
        assert text in error.message
    for flag in ("missing", "unreadable", "no-field-of-view", "duplicates", "shared-patients"):
        assert f"--accept {flag}:" in error.hint
    assert error.exit_code == 5


def test_the_first_twenty_problems_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    write_rows(tmp_path / "labels.csv", "image,label", [f"gone{i}.jpg,{i % 2}" for i in range(50)])
    message = error_of(tmp_path).message
    assert message.count("\n  - gone") == 20
    assert "more: " in message
    assert "30 missing" in message


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\x.jpg", "..\\x.jpg", "images/../../x.jpg", "~/x.jpg"]
)
def test_paths_out_of_the_folder_are_refused_whatever_is_accepted(tmp_path: Path, name: str) -> None:
    csv_dataset(tmp_path / "in", GRADES)
    save(tmp_path / "x.jpg", 50)
    with (tmp_path / "in" / "labels.csv").open("a") as file:
        file.write(f"{name},0\n")
    error = error_of(tmp_path / "in", accept="missing unreadable")
    assert "labels.csv line 11" in error.message
    assert "leads out of the image folder" in error.message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([*GRADES, "-1"], "line 11: label -1 is out of range"),
        ([*GRADES, "77"], "line 11: label 77 is out of range"),
        ([*GRADES, "4"], "line 11: label 4 is out of range"),
        ([*GRADES, "4", "4"], "class 3 has no photograph"),
        ([*GRADES, "2.5"], "line 11: label '2.5' is not a whole number"),
        ([*GRADES, "mild"], "line 11: label 'mild' is not a whole number"),
        ([*GRADES, "3"], "class 3 has 1 photograph"),
        (["1", "1", "2", "2"], "class 0 has no photograph"),
        (["0", "0", "0"], "at least two classes"),
        (["", "", ""], "no label at all"),
        ([f"id{i}" for i in range(24)], "24 different labels on 24 photographs"),
    ],
)
def test_labels_that_must_be_errors_are_named(tmp_path: Path, labels: list[str], message: str) -> None:
    assert message in error_of(csv_dataset(tmp_path, labels)).message


def test_an_absent_grade_can_be_accepted(tmp_path: Path) -> None:
    dataset = load(csv_dataset(tmp_path, [*GRADES, "4", "4"]), accept="rare-classes")
    assert dataset.classes == ("0", "1", "2", "3", "4")
    dataset = load(csv_dataset(tmp_path, [*GRADES, "4"]), accept="rare-classes")
    assert dataset.classes == ("0", "1", "2", "3", "4")
    assert "accepted rare-classes" in dataset.notes[-1]


def test_lines_of_another_length_and_strange_splits_are_named(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES, header="image,label,split", extra=[",train"] * 8 + [",holdout"])
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("9.jpg,0\n")
    message = error_of(tmp_path).message
    assert "line 10: split 'holdout'" in message
    assert "line 11: 2 cells, expected 3" in message


def test_unlabelled_photographs_belong_into_train(tmp_path: Path) -> None:
    labels = [*GRADES, ""]
    given = [",train"] * 6 + [",val"] * 4
    csv_dataset(tmp_path, labels, header="image,label,split", extra=given)
    assert "--accept unlabelled" in error_of(tmp_path, accept="rare-classes").hint
    assert len(load(tmp_path, accept="unlabelled rare-classes").samples) == 9


def test_accepted_copies_leave_train_and_stay_where_they_are_tested_on(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2, "test/a": 2})
    data = (tmp_path / "test" / "a" / "10.jpg").read_bytes()
    (tmp_path / "train" / "a" / "copy.jpg").write_bytes(data)
    (tmp_path / "val" / "a" / "copy.jpg").write_bytes(data)
    assert "test/a/10.jpg (test), train/a/copy.jpg (train), val/a/copy.jpg (val)" in error_of(tmp_path).message
    dataset = load(tmp_path, accept="duplicates")
    assert splits(dataset) == {"train": 6, "val": 4, "test": 2}
    assert dataset.notes[0].startswith("accepted duplicates (1)")


def test_copies_with_different_labels_are_left_out_when_accepted(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "b" / "copy.jpg").write_bytes((tmp_path / "a" / "0.jpg").read_bytes())
    assert "with different labels: a/0.jpg" in error_of(tmp_path).message
    assert len(load(tmp_path, accept="duplicates").samples) == 7


def test_a_photograph_listed_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES)
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("0.jpg,0\n1.jpg,2\n")
    message = error_of(tmp_path).message
    assert "images/0.jpg: listed 2 times: labels.csv line 2, labels.csv line 11" in message
    assert "images/1.jpg: listed with different labels or splits" in message
    assert len(load(tmp_path, accept="duplicates").samples) == 8


def test_a_mask_column_must_name_files_that_are_there(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES, header="image,label,mask", extra=[f",{i}.jpg" for i in range(8)] + [",gone.png"])
    assert "images/gone.png: there is no such file" in error_of(tmp_path, mask_column="mask").message
    dataset = load(tmp_path, mask_column="mask", accept="missing")
    assert dataset.samples[3].mask == "images/3.jpg"
    assert load(tmp_path).samples[3].mask is None


@pytest.mark.parametrize("content", ["nothing", "one file", "photographs", "an empty class"])
def test_a_folder_without_a_dataset_is_an_error_with_what_was_found_and_expected(tmp_path: Path, content: str) -> None:
    if content == "one file":
        (tmp_path / "notes.md").write_text("hello")
    elif content == "photographs":
        save(tmp_path / "1.jpg", 1)
    elif content == "an empty class":
        (tmp_path / "healthy").mkdir()
    error = error_of(tmp_path)
    assert "a folder per class" in error.message
    found = {"nothing": "the folder is empty", "one file": "notes.md", "photographs": "1 photographs and no labels"}
    assert found.get(content, "healthy") in error.message


def test_paths_that_are_not_there_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    assert "no such folder" in error_of(tmp_path / "gone").message
    (tmp_path / "x.zip").write_bytes(b"PK")
    assert ".csv, .tsv or .npz" in error_of(tmp_path / "x.zip").message


def test_unknown_acceptances_and_fractions_are_settings_errors() -> None:
    with pytest.raises(SettingsError, match="everything") as caught:
        DataOptions(accept=frozenset({"everything"}))
    assert "duplicates" in caught.value.hint
    with pytest.raises(SettingsError, match="val_fraction"):
        DataOptions(val_fraction=1.0)


def test_the_fingerprint_changes_with_any_pixel_or_label(tmp_path: Path) -> None:
    before = load(csv_dataset(tmp_path, GRADES)).fingerprint
    save(tmp_path / "images" / "5.jpg", 99)
    pixels = load(tmp_path).fingerprint
    csv_dataset(tmp_path, [*GRADES[:-1], "1"])
    assert len({before, pixels, load(tmp_path).fingerprint}) == 3


# --- real photographs ------------------------------------------------------------------------------------------


@needs_photographs
def test_the_real_photographs_load_as_documented() -> None:
    dataset = load(SHARED / "idrid", label_column="grade")
    assert splits(dataset) == {"train": 318, "val": 80}
    assert dataset.classes == ("0", "1", "2", "3", "4")
    assert "grade or dme_risk" in error_of(SHARED / "idrid").hint


@needs_photographs
def test_the_real_medmnist_file_loads() -> None:
    assert splits(load(SHARED / "retinamnist")) == {"train": 1080, "val": 120, "test": 400}
