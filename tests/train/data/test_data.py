"""Datasets: the form is detected, and all problems are reported in one error."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_kit import SHARED, class_folders, csv_dataset, encode, eye, save, write_rows

from medtex_edge.errors import DataError, SettingsError
from medtex_edge.train.data.dataset import DataOptions, Dataset, load_dataset
from medtex_edge.train.data.split import draw_splits
from medtex_edge.train.data.table import TableRow

GRADES = ["0", "0", "0", "1", "1", "1", "2", "2", "2"]
needs_photographs = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real photographs (../shared/data) are not on this machine"
)


def load(data: Path, seed: int = 0, **options: object) -> Dataset:
    if "accept" in options:
        options["accept"] = frozenset(str(options["accept"]).split())
    return load_dataset(data, options=DataOptions(**options), seed=seed)  # type: ignore[arg-type]


def splits(dataset: Dataset) -> dict[str, int]:
    return dict(Counter(sample.split for sample in dataset.samples))


def error_of(data: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        load(data, **options)
    return caught.value


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


# --- all problems in one error ---------------------------------------------------------------------------------


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


# --- splits ----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_split_and_another_another(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES * 2)
    assert load(tmp_path, seed=1).fingerprint == load(tmp_path, seed=1).fingerprint
    assert len({load(tmp_path, seed=seed).fingerprint for seed in range(4)}) > 1


def test_the_fingerprint_changes_with_any_pixel_or_label(tmp_path: Path) -> None:
    before = load(csv_dataset(tmp_path, GRADES)).fingerprint
    save(tmp_path / "images" / "5.jpg", 99)
    pixels = load(tmp_path).fingerprint
    csv_dataset(tmp_path, [*GRADES[:-1], "1"])
    assert len({before, pixels, load(tmp_path).fingerprint}) == 3


patients = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "b", "c", "d", "e", "f", "g"])), min_size=1, max_size=60
)


@given(patients, st.floats(0.05, 0.6), st.integers(0, 1000))
@settings(max_examples=150)
def test_a_drawn_split_never_parts_a_patient_or_a_copy_and_leaves_no_class_out_of_train(
    eyes: list[tuple[int, str]], fraction: float, seed: int
) -> None:
    labelled = [(TableRow(f"{i}.jpg", "", str(label), "", patient), label) for i, (label, patient) in enumerate(eyes)]
    contents = {row.key: str(index // 2 if index < 6 else index) for index, (row, _) in enumerate(labelled)}
    found, notes = draw_splits(labelled, contents, fraction, seed)
    assert set(found) == {row.key for row, _ in labelled}
    assert len(notes) == 1
    for same in (lambda row: row.patient or row.key, lambda row: contents[row.key]):
        ordered = sorted((row for row, _ in labelled), key=same)
        for _, group in itertools.groupby(ordered, same):
            assert len({found[row.key] for row in group}) == 1
    again, _ = draw_splits(labelled[::-1], contents, fraction, seed)
    assert again == found


def test_a_class_of_two_gives_one_to_val_and_one_to_train(tmp_path: Path) -> None:
    dataset = load(csv_dataset(tmp_path, ["0"] * 6 + ["1", "1"]), val_fraction=0.1)
    assert Counter((s.split, s.label) for s in dataset.samples) == {
        ("train", 0): 5, ("val", 0): 1, ("train", 1): 1, ("val", 1): 1,
    }  # fmt: skip


def test_unlabelled_eyes_of_a_validated_patient_are_left_out(tmp_path: Path) -> None:
    labels = ["0", "0", "1", "1", "", ""]
    csv_dataset(tmp_path, labels, header="image,label,patient", extra=[",a", ",b", ",c", ",d", ",a", ",b"])
    dataset = load(tmp_path)
    assert len(dataset.samples) == 5
    assert "1 unlabelled photographs of patients in val are left out" in dataset.notes


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
