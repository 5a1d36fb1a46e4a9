"""The RetinaMNIST benchmark on a drawn npz of the same form: trains, measures, resumes, keeps the test split closed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_kit import write_photographs, write_run, write_teacher
from sklearn.metrics import roc_auc_score

from benchmarks.retinamnist.__main__ import Plan, measure
from medtex_edge.errors import DataError, SettingsError
from medtex_edge.evaluate.held_out import held_out_report
from medtex_edge.train.compute.device import choose
from medtex_edge.train.config import TeachConfig, TrainConfig
from medtex_edge.train.metrics.classification import answer_metrics, auc_macro
from medtex_edge.train.metrics.intervals import auc_macro_interval
from medtex_edge.train.models.teacher import load_teacher
from medtex_edge.train.run_folder import load_run

SMALL = {"model": "test_efficientnet", "model_weights": "none", "size": 32, "epochs": 1, "batch": 8}


def _npz(path: Path, *, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """28 x 28 colour noise, three grades that are the brightness of a square."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in zip(splits, (24, 12, 15), strict=False):
        labels = np.arange(count) % 3
        images = rng.integers(40, 90, (count, 28, 28, 3), dtype=np.uint8)
        images[:, 8:20, 8:20] += (50 * labels).astype(np.uint8)[:, None, None, None]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(path, **arrays)
    return path


def _plan() -> Plan:
    student = TrainConfig(
        student="test_efficientnet", student_weights="none", size=32, stages=3, width=8, batch=8, epochs=1,
        joint_epochs=1, precision="fp32",
    )  # fmt: skip
    teachers = tuple(TeachConfig(**SMALL, precision="fp32", seed=seed) for seed in (0, 1))
    return Plan(teachers, student, (0, 1))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("retinamnist")
    data = _npz(folder / "drawn.npz")
    return data, folder / "out", measure(_plan(), data, folder / "out", Console(quiet=True))


def test_each_seed_has_val_and_test_with_intervals_next_to_the_published_figures(measured: Any) -> None:
    _, out, result = measured
    assert json.loads((out / "retinamnist.json").read_text()) == json.loads(json.dumps(result))
    for row in result["students"]:
        assert (row["val"]["student"]["n"], row["test"]["student"]["n"]) == (12, 15)
        for key in ("auc_macro", "accuracy"):
            low, high = row["test"]["student"][f"{key}_interval"]
            assert low <= row["test"]["student"][key] <= high
    accuracies = [row["test"]["student"]["accuracy"] for row in result["students"]]
    assert result["mean"]["test"]["student"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    page = (out / "retinamnist.md").read_text()
    assert "| Google AutoML Vision | 0.750 | 0.531 |" in page
    assert "opened before, for shorter trainings: AUC 0.738, accuracy 0.539" in page
    assert page.count("as deployed |") == 3  # two seeds and their mean
    # As published for ResNet-18 with five classes, whatever the student is.
    assert result["cost"]["resnet18_28px"]["parameters"] == pytest.approx(11.17e6, rel=0.01)


def test_validation_figures_equal_those_of_the_training(measured: Any) -> None:
    _, out, result = measured
    recorded = json.loads((out / "student-0" / "metrics.json").read_text())["student"]
    assert result["students"][0]["val"]["student"]["confusion"] == recorded["confusion"]
    assert result["students"][0]["val"]["student"]["auc_macro"] == pytest.approx(recorded["auc_macro"])


def test_finished_runs_are_kept_and_other_settings_are_refused(measured: Any) -> None:
    data, out, result = measured
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/model.json")}
    assert len(stamps) == 4
    again = measure(_plan(), data, out, Console(quiet=True), test=False)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert "test" not in again["students"][0]
    assert again["students"][0]["val"] == result["students"][0]["val"]
    other = replace(_plan(), student=replace(_plan().student, budget=0.7))
    with pytest.raises(SettingsError, match="other settings"):
        measure(other, data, out, Console(quiet=True))


def test_a_test_split_that_is_gone_is_named_and_not_replaced(measured: Any) -> None:
    data, out, _ = measured
    _npz(data, splits=("train", "val"))
    run = load_run(out / "student-0")
    compute = choose("fp32")
    with pytest.raises(DataError, match=r"15 of the 51 photographs .* test/0 \(test\)"):
        held_out_report(run, load_teacher(str(out / "teacher-0"), run.classes, compute), compute)


def test_a_run_without_a_test_split_is_an_error_that_names_another_split(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", write_photographs(tmp_path / "photos", 20)))
    teacher = load_teacher(str(write_teacher(tmp_path / "teacher")), run.classes, choose("fp32"))
    with pytest.raises(DataError, match="no labelled photographs in the test split") as caught:
        held_out_report(run, teacher, choose("fp32"))
    assert "val" in caught.value.hint


def test_the_macro_auc_is_scikit_learns_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.arange(5).repeat(3), rng.integers(0, 5, 185)])
    logits = rng.normal(size=(200, 5)) + 1.2 * np.eye(5)[labels]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    value = auc_macro(p, labels)
    assert value == pytest.approx(roc_auc_score(labels, p, multi_class="ovr", average="macro"))
    low, high = auc_macro_interval(p, labels) or (1, 0)
    assert low < (value or 0) < high
    assert high - low < 0.15
    perfect = np.eye(5)[labels]
    assert auc_macro_interval(perfect, labels) == (1, 1)
    assert answer_metrics(perfect, labels, (2, 3, 4), ordered=True)["auc_macro"] == 1


def test_a_class_without_photographs_does_not_count_and_one_class_alone_has_no_auc() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    assert auc_macro(p, np.array([0, 0, 1])) == 1
    assert auc_macro(p, np.array([0, 0, 0])) is None
    assert auc_macro_interval(p, np.array([0, 0, 0])) is None
