"""The photographs of a run: `splits.json` alone defines them, after any change of seed, table or folder."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from bundles import disc
from rich.console import Console
from run_kit import CONFIG, write_photographs, write_run, write_teacher

from medtex_edge.cli import main
from medtex_edge.errors import DataError
from medtex_edge.evaluate.subject import open_pictures, subject_of_run
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.dataset import DataOptions, load_dataset
from medtex_edge.train.data.split import read_splits
from medtex_edge.train.loop.reporter import Reporter
from medtex_edge.train.prepare import DataSource, open_dataset, resumed_splits
from medtex_edge.train.run_folder import Run, load_run
from medtex_edge.train.student_run import train

CPU = Compute(torch.device("cpu"), None)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Photographs whose table names no split: it has to be drawn."""
    return write_photographs(tmp_path / "photos", 40, split=False)


@pytest.fixture
def run(tmp_path: Path, photographs: Path) -> Path:
    return write_run(tmp_path / "runs" / "mine", photographs)


def _with_another_seed(run: Path) -> Run:
    config = run / "config.toml"
    text = config.read_text("utf-8")
    assert "seed = 0\nfingerprint" in text
    config.write_text(text.replace("seed = 0\nfingerprint", "seed = 7\nfingerprint"), "utf-8")
    changed = load_run(run)
    assert changed.seed == 7
    return changed


def test_neither_another_seed_nor_another_place_moves_a_photograph_to_another_split(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    splits = read_splits(run)
    assert load_dataset(photographs, options=DataOptions(), seed=7).splits != splits  # what a second draw would give
    changed = _with_another_seed(run)
    assert changed.photographs("val").keys == splits.val
    moved = shutil.move(photographs, tmp_path / "elsewhere")
    assert changed.photographs("train", data=moved).keys == splits.train
    assert changed.photographs("val", data=moved).keys == splits.val


def test_an_evaluation_measures_on_the_runs_own_split_after_the_seed_was_changed_and_the_photographs_moved(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    splits = read_splits(run)
    subject = subject_of_run(_with_another_seed(run), CPU)
    own = open_pictures(subject, None, subject.options, "val", tmp_path / "cache")
    moved = shutil.move(photographs, tmp_path / "elsewhere")
    elsewhere = open_pictures(subject, moved, subject.options, "val", tmp_path / "cache")
    assert own.keys == elsewhere.keys == splits.val
    assert elsewhere.dataset.fingerprint == subject.fingerprint


def test_a_split_column_that_was_changed_after_the_training_changes_nothing(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photos", 40)
    run = write_run(tmp_path / "runs" / "mine", photographs)
    table = photographs / "labels.csv"
    lines = table.read_text("utf-8")
    table.write_text(lines.replace(",val", ",tmp").replace(",train", ",val").replace(",tmp", ",train"), "utf-8")
    assert load_run(run).photographs("val").keys == read_splits(run).val


def test_a_photograph_added_after_the_training_belongs_to_no_split_of_the_run(run: Path, photographs: Path) -> None:
    cv2.imwrite(str(photographs / "images" / "new.png"), disc(128, lesion=True, seed=99))
    with (photographs / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(["new.png", 1])
    found = load_run(run)
    assert {*found.photographs("train").keys, *found.photographs("val").keys} == {k for k, _ in read_splits(run)}


def test_a_photograph_that_was_renamed_is_named_with_its_split_and_the_next_step(run: Path, photographs: Path) -> None:
    name = Path(read_splits(run).val[0]).name
    (photographs / "images" / name).rename(photographs / "images" / "renamed.png")
    table = photographs / "labels.csv"
    table.write_text(table.read_text("utf-8").replace(name, "renamed.png"), "utf-8")
    with pytest.raises(DataError, match=rf"1 of the 40 photographs .* images/{name} \(val\)") as caught:
        load_run(run).photographs("val")
    assert "--data DIR" in caught.value.hint


@pytest.mark.parametrize("what", ["pixels", "label"])
def test_photographs_that_changed_since_the_training_are_refused(run: Path, photographs: Path, what: str) -> None:
    if what == "pixels":
        cv2.imwrite(str(photographs / "images" / "003.png"), disc(128, lesion=True, seed=99))
    else:
        table = photographs / "labels.csv"
        table.write_text(table.read_text("utf-8").replace("003.png,0", "003.png,1"), "utf-8")
    with pytest.raises(DataError, match="does not agree with the run's splits") as caught:
        load_run(run).photographs("val")
    assert "--data DIR" in caught.value.hint


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_without_its_splits_a_run_is_neither_evaluated_nor_exported(
    run: Path, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if damage == "missing":
        (run / "splits.json").unlink()
    else:
        (run / "splits.json").write_text("{", "utf-8")
    for command in (["evaluate", str(run), "--against", ""], ["export", str(run)]):
        assert main([*command, "--out", str(tmp_path / "x.medtex")]) == 5
        shown = capfd.readouterr().err
        assert "splits.json" in shown
        assert "train again" in shown


def test_other_photographs_keep_their_own_splits_and_none_is_drawn_for_them(run: Path, tmp_path: Path) -> None:
    found = load_run(run)
    given = write_photographs(tmp_path / "given", 20)
    assert found.photographs("val", data=given).keys == tuple(f"images/{i:03d}.png" for i in range(0, 20, 5))
    undivided = write_photographs(tmp_path / "undivided", 20, split=False)
    assert found.photographs("val", data=undivided).keys == ()
    subject = subject_of_run(found, CPU)
    with pytest.raises(DataError, match="no labelled photographs in the split 'val'") as caught:
        open_pictures(subject, undivided, subject.options, "val", tmp_path / "cache")
    assert "--split all" in caught.value.hint


def test_a_resumed_training_keeps_the_splits_that_it_began_with(run: Path, photographs: Path) -> None:
    splits, source = read_splits(run), DataSource(photographs, DataOptions())
    assert resumed_splits(run) is None  # without a checkpoint nothing is resumed
    (run / "checkpoint.pt").touch()
    with Reporter(Console(quiet=True), run) as reporter:
        dataset = open_dataset(source, 7, reporter, resumed_splits(run))
        assert dataset.splits == splits
        assert dataset.fingerprint == json.loads((run / "model.json").read_text("utf-8"))["data_fingerprint"]
        assert not dataset.val_drawn
        assert open_dataset(source, 7, reporter).val_drawn
    (run / "splits.json").unlink()
    with pytest.raises(DataError, match="is missing"):
        resumed_splits(run)


def test_a_training_can_share_the_splits_of_another_run_as_the_evaluator_of_that_run_must(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    splits, source, out = read_splits(run), DataSource(photographs, DataOptions()), tmp_path / "runs" / "evaluator"
    config = replace(CONFIG, method="masked", epochs=1, joint_epochs=0, batch=8, seed=7)
    teacher = str(write_teacher(tmp_path / "teacher"))
    with Reporter(Console(quiet=True), out) as reporter:
        train(config, source, teacher, out, reporter, splits=splits)
    assert read_splits(out) == splits
    assert load_run(out).photographs("val").keys == splits.val
