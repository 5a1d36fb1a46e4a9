"""The less-data curve: the labels of each point, the trainings it needs, and their results, kept between commands."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from run_kit import STUDENT, write_photographs

from medtex_edge.commands.curve import curve
from medtex_edge.commands.train import train_teacher
from medtex_edge.errors import DataError, SettingsError
from medtex_edge.files import write_json
from medtex_edge.train.config import TrainConfig
from medtex_edge.train.curve import curve as curve_module
from medtex_edge.train.curve.curve import CurvePlan, differences, measure_curve, plan_points, total_epochs, with_steps
from medtex_edge.train.curve.jobs import Job
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.data.dataset import DataOptions, load_dataset
from medtex_edge.train.data.split import Splits, write_splits
from medtex_edge.train.data.subset import Subset, labelled
from medtex_edge.train.models.teacher import FileOptions
from medtex_edge.train.prepare import DataSource

LABELS = np.array([0] * 40 + [1] * 20 + [2] * 7 + [-1] * 5)
TINY = ["--size", "64", "--batch", "8", "--precision", "fp32", "--json"]


def _photos() -> Photos:
    images = np.arange(len(LABELS), dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 3), np.uint8)
    return Photos(images, LABELS, tuple(str(i) for i in range(len(LABELS))))


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_small_fractions_lie_in_the_larger_ones_with_every_class_in_its_share(seed: int) -> None:
    drawn = [set(labelled(LABELS, fraction, seed).tolist()) for fraction in (0.05, 0.1, 0.25, 0.5, 1)]
    assert all(a <= b for a, b in pairwise(drawn))
    assert drawn[-1] == set(np.flatnonzero(LABELS >= 0).tolist())
    quarter = LABELS[sorted(drawn[2])]
    assert [int((quarter == c).sum()) for c in range(3)] == [10, 5, 2]
    assert [int((LABELS[sorted(drawn[0])] == c).sum()) for c in range(3)] == [2, 1, 1]


def test_seeds_draw_differently_and_repeat() -> None:
    assert labelled(LABELS, 0.25, 0).tolist() == labelled(LABELS, 0.25, 0).tolist()
    assert labelled(LABELS, 0.25, 0).tolist() != labelled(LABELS, 0.25, 1).tolist()


def test_a_fraction_alone_gives_as_many_photographs_as_all_and_no_others() -> None:
    alone = Subset(0.25, 3).of(_photos())
    kept = set(labelled(LABELS, 0.25, 3).tolist())
    assert len(alone.images) == len(LABELS)
    assert {int(key) for key in alone.keys} == kept
    assert (alone.images[:, 0, 0, 0] == [int(key) for key in alone.keys]).all()
    assert (alone.labels == LABELS[[int(key) for key in alone.keys]]).all()
    shown = np.unique([int(key) for key in alone.keys], return_counts=True)[1]
    assert shown.max() - shown.min() <= math.ceil(len(LABELS) / len(kept))


def test_the_others_stay_as_photographs_without_labels() -> None:
    with_others = Subset(0.25, 3, others=True).of(_photos())
    kept = labelled(LABELS, 0.25, 3)
    assert with_others.keys == _photos().keys
    assert np.flatnonzero(with_others.labels >= 0).tolist() == kept.tolist()


def _plan(**changes: Any) -> CurvePlan:
    whole = {
        "source": DataSource(Path("photos"), DataOptions()), "teacher": "runs/teacher",
        "teacher_options": FileOptions(),
        "methods": ("supervised", "hinton", "medtex"), "fractions": (0.1, 1.0), "seeds": (0, 1), "settings": {},
    }  # fmt: skip
    return CurvePlan(**{**whole, **changes})


def test_every_point_takes_the_same_number_of_epochs_whatever_its_method_and_fraction() -> None:
    points = plan_points(_plan(methods=("supervised", "masked", "medtex"), steps=100), LABELS)
    assert {total_epochs(point.config) for point in points} == {20}
    assert {p.line for p in points} == {"supervised", "masked", "masked+unlabelled", "medtex", "medtex+unlabelled"}
    assert len(points) == 5 * 2 * 2


def test_steps_keep_the_proportions_of_the_phases() -> None:
    config = with_steps(TrainConfig(epochs=15, joint_epochs=5, batch=10), 400, 100)
    assert (config.epochs, config.joint_epochs) == (30, 10)
    assert total_epochs(with_steps(config, 1, 100)) == 1


def test_plans_that_measure_nothing_are_refused() -> None:
    for wrong in ({"methods": ("magic",)}, {"fractions": (0.0, 1.0)}, {"fractions": (1.5,)}, {"methods": ()}):
        with pytest.raises(SettingsError):
            _plan(**wrong)


def test_differences_are_paired_by_seed_and_skip_what_is_missing() -> None:
    def points(*rows: tuple[float, int, float | None]) -> dict[str, Any]:
        return {"points": [{"fraction": f, "seed": s, "auc_referable": v} for f, s, v in rows]}

    found = {"methods": {"a": points((0.1, 0, 0.8), (0.1, 1, 0.9), (1.0, 0, None)), "b": points((0.1, 1, 0.7))}}
    assert differences(found, "a", "b") == {0.1: [pytest.approx(0.2)]}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    write_photographs(folder / "photographs", 50)
    arguments = ["--model", STUDENT, "--model-weights", "none", "--epochs", "1", "--out", str(folder / "teacher-0")]
    data = ["--data", str(folder / "photographs")]
    assert CliRunner().invoke(train_teacher, [*data, *TINY, *arguments], catch_exceptions=False).exit_code == 0
    _curve(folder)
    _curve(folder)
    return folder


def _curve(folder: Path, *more: str) -> dict[str, Any]:
    arguments = [
        "--data", str(folder / "photographs"), *TINY, "--teacher", str(folder / "teacher-{seed}"), "--student", STUDENT,
        "--student-weights", "none", "--fractions", "0.25,1", "--seeds", "1", "--methods", "supervised,medtex",
        "--light", "--steps", "5", "--threads", "1", "--out", str(folder / "curve"), *more,
    ]  # fmt: skip
    result = CliRunner().invoke(curve, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return value


@pytest.mark.slow
def test_the_curve_is_written_with_every_point_and_its_counts(measured: Path) -> None:
    found = json.loads((measured / "curve" / "curve.json").read_text())
    assert set(found["methods"]) == {"supervised", "masked", "masked+unlabelled"}
    points = found["methods"]["masked+unlabelled"]["points"]
    assert [(p["fraction"], p["n_labelled"], p["n_unlabelled"]) for p in points] == [(0.25, 10, 30), (1.0, 40, 0)]
    assert set(found["teacher"]["auc_referable"]) == {"0"}
    assert found["steps"] == 5
    assert found["light"] is True
    # Without label terms, all the photographs are the same training at every fraction.
    assert found["trainings"] == 4
    assert points[0]["auc_referable"] == points[1]["auc_referable"]
    assert (measured / "curve" / "curve.png").stat().st_size > 5000
    assert not list((measured / "curve" / "points").glob("*/*.safetensors"))


@pytest.mark.slow
def test_finished_points_are_not_trained_again_and_missing_ones_are(measured: Path) -> None:
    folders = sorted((measured / "curve" / "points").glob("[!.]*"))
    times = {f: (f / "metrics.json").stat().st_mtime_ns for f in folders}
    before = json.loads((measured / "curve" / "curve.json").read_text())
    lost = folders[0]
    (lost / "metrics.json").unlink()
    again = _curve(measured)
    assert again["methods"] == before["methods"]
    assert [f for f in folders if (f / "metrics.json").stat().st_mtime_ns != times[f]] == [lost]


@pytest.mark.slow
def test_other_settings_are_refused_where_points_exist(measured: Path) -> None:
    with pytest.raises(SettingsError, match="other settings"):
        _curve(measured, "--lr", "0.001")


@pytest.mark.slow
def test_a_training_that_fails_is_an_error_with_the_end_of_its_log(measured: Path) -> None:
    with pytest.raises(DataError, match="no model 'no_such_net'"):
        _curve(measured, "--student", "no_such_net", "--out", str(measured / "broken"))


def test_each_point_counts_the_labels_of_the_split_that_its_training_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = write_photographs(tmp_path / "photographs", 40, split=False)
    dataset = load_dataset(photographs, options=DataOptions(), seed=0)
    train = {0: dataset.of("train"), 3: dataset.of("train")[:-5]}

    def run_jobs(todo: list[Job], **_: Any) -> None:
        for job in todo:
            job.folder.mkdir(parents=True)
            write_splits(job.folder, Splits(tuple(s.key for s in train[job.task["subset"]["seed"]])))
            measures = {"auc_referable": 0.5, "accuracy": 0.5}
            write_json(job.folder / "metrics.json", {"student": measures, "teacher": measures})

    monkeypatch.setattr(curve_module, "run_jobs", run_jobs)
    source = DataSource(photographs, DataOptions())
    wanted = CurvePlan(source, "teacher-{seed}", FileOptions(), ("supervised",), (1.0,), (0, 3), {})
    found = measure_curve(wanted, dataset, tmp_path / "curve", jobs=1, threads=1, on_progress=lambda done, count: None)
    points = found["methods"]["supervised"]["points"]
    assert [(p["seed"], p["n_labelled"]) for p in points] == [(0, len(train[0])), (3, len(train[3]))]


def test_one_teacher_for_seeds_that_draw_their_own_val_split_is_refused(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "drawn", 40, split=False)
    dataset = load_dataset(photographs, options=DataOptions(), seed=0)
    source = DataSource(photographs, DataOptions())
    wanted = CurvePlan(source, "runs/teacher", FileOptions(), ("supervised",), (1.0,), (0,), {})
    with pytest.raises(SettingsError, match="no val split") as caught:
        measure_curve(wanted, dataset, tmp_path / "curve", jobs=1, threads=1, on_progress=lambda done, count: None)
    assert "teacher-{seed}" in caught.value.hint
