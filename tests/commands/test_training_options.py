"""The options that the training commands share."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from medtex_edge.commands import training_options
from medtex_edge.train.loop.reporter import Reporter


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
