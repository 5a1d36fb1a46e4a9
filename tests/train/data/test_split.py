"""Splits: how they are drawn for a training, and how `splits.json` is read or refused after it."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from dataset_kit import GRADES, load
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_kit import csv_dataset

from medtex_edge.errors import DataError
from medtex_edge.train.data.split import Splits, draw_splits, read_splits, write_splits
from medtex_edge.train.data.table import TableRow

SPLITS = Splits(train=("b.png", "a.png"), val=("c.png",))


def test_splits_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_splits(tmp_path, SPLITS)
    assert read_splits(tmp_path) == SPLITS
    assert dict(SPLITS) == {"b.png": "train", "a.png": "train", "c.png": "val"}


def test_a_missing_file_is_an_error_that_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits\.json is missing") as caught:
        read_splits(tmp_path)
    assert "train again" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": ["a"], "val": [', "cannot be read"),
        ("\x00\x00", "cannot be read"),
        ('["a", "b"]', "expected an object"),
        ('{"train": ["a"], "val": ["b"]}', "the keys train, val, test"),
        ('{"train": ["a"], "val": ["b"], "test": [], "more": []}', "the keys train, val, test"),
        ('{"train": ["a"], "val": "b", "test": []}', "val: expected a list"),
        ('{"train": ["a", 7], "val": ["b"], "test": []}', "train: expected a list"),
        ('{"train": ["a", "b"], "val": ["b"], "test": []}', "lists b 2 times"),
        ('{"train": [], "val": ["b"], "test": []}', "no photograph to train on"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_file_damage_and_next_step(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "splits.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_splits(tmp_path)
    assert str(tmp_path / "splits.json") in caught.value.message
    assert "restore the file" in caught.value.hint


def test_the_same_seed_gives_the_same_split_and_another_another(tmp_path: Path) -> None:
    csv_dataset(tmp_path, GRADES * 2)
    assert load(tmp_path, seed=1).fingerprint == load(tmp_path, seed=1).fingerprint
    assert len({load(tmp_path, seed=seed).fingerprint for seed in range(4)}) > 1


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
