"""The options that the training commands share, and the next command that a training prints."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from medtex_edge.commands import training_options
from medtex_edge.commands.train import train
from medtex_edge.commands.training_options import _DATA_DEFAULTS, data_arguments
from medtex_edge.train.loop.reporter import Reporter

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1).filter(lambda text: text[0] != "-")
NAMES = ("image_column", "label_column", "split_column", "patient_column", "mask_column", "image_folder", "referable")


@given(
    st.fixed_dictionaries({name: st.just(_DATA_DEFAULTS[name]) | TEXT for name in NAMES}),
    TEXT.map(lambda text: f"my photos/{text}"),
    st.lists(TEXT, max_size=2).map(tuple),
    st.sampled_from([0.2, 0.25, 0.5]),
    st.integers(0, 9),
)
def test_the_arguments_of_the_next_command_come_back_as_they_were(
    texts: dict[str, str], data: str, accept: tuple[str, ...], val_fraction: float, seed: int
) -> None:
    shared: dict[str, Any] = {**texts, "data": data, "accept": accept, "val_fraction": val_fraction, "seed": seed}
    parsed = train.make_context("train", shlex.split(data_arguments(shared))).params
    assert {name: parsed[name] for name in shared if name != "data"} == {
        name: value for name, value in shared.items() if name != "data"
    }
    assert str(parsed["data"]) == data


def test_defaults_are_left_out() -> None:
    assert data_arguments({**_DATA_DEFAULTS, "data": "photos"}) == " --data photos"
    assert data_arguments({**_DATA_DEFAULTS, "data": None}) == ""


def test_without_data_the_warning_about_synthetic_photographs_shows_no_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.csv").touch()
    monkeypatch.setattr(training_options, "SYNTHETIC", tmp_path)
    columns = ("image_column", "label_column", "split_column", "patient_column", "mask_column", "image_folder")
    shared = dict.fromkeys(columns, "") | {"data": None, "val_fraction": 0.2, "accept": (), "referable": ""}
    printed = io.StringIO()
    source, synthetic = training_options.source(shared, Reporter(Console(file=printed, width=100), tmp_path))
    assert synthetic
    assert source.path == tmp_path
    assert printed.getvalue().splitlines() == [
        "NO --data WAS GIVEN: training on the built-in SYNTHETIC dataset.",
        "It shows how the commands work. No result on it holds for patients.",
    ]
