"""`splits.json`: it is read as it was written, and refused where it is missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtex_edge.errors import DataError
from medtex_edge.train.data.split import Splits, read_splits, write_splits

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
