"""The training as its user meets it: folders, resume after kill -9, baselines, refusals. Tiny and synthetic."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from medtex_edge.commands.train import train, train_teacher
from medtex_edge.errors import DataError, SettingsError
from medtex_edge.train.prepare import referable_classes
from medtex_edge.train.run_folder import load_run
from medtex_edge.train.synthetic.dataset import write_dataset

TINY = ["--label-column", "grade", "--size", "64", "--batch", "8", "--precision", "fp32", "--json"]
BACKBONE = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset") / "c", count=48, size=96, seed=1)


@pytest.fixture(scope="module")
def teacher(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "teacher"
    _call(train_teacher, dataset, "--model", BACKBONE, "--model-weights", "none", "--epochs", "1", "--out", str(out))
    return out


@pytest.fixture(scope="module")
def run(dataset: Path, teacher: Path) -> Path:
    out = teacher.with_name("student")
    _call(train, dataset, *_student(teacher, out), "--masks", str(dataset))
    return out


def _student(teacher: Path, out: Path) -> list[str]:
    return [
        "--teacher", str(teacher), "--student", BACKBONE, "--student-weights", "none",
        "--epochs", "2", "--joint-epochs", "1", "--out", str(out),
    ]  # fmt: skip


def _call(command: Any, dataset: Path, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(command, ["--data", str(dataset), *TINY, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return value


def test_a_run_folder_holds_all_promised_files(run: Path) -> None:
    names = {"student.safetensors", "explainer.safetensors", "config.toml", "metrics.json", "history.csv", "model.json"}
    assert names <= {path.name for path in run.iterdir()}
    assert {"history.png", "roc.png", "confusion.png", "sheet.png"} <= {p.name for p in (run / "plots").iterdir()}
    assert (run / "report.html").stat().st_size > 10_000
    assert not (run / "checkpoint.pt").exists()
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["apart", "apart", "joint"]
    assert {"out", "mid", "local", "tv", "val_loss"} <= set(rows[2])


def test_the_metrics_hold_teacher_student_agreement_and_saliency(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("teacher", "student"):
        assert {"auc_referable", "auc_referable_interval", "accuracy", "qwk", "n"} <= set(metrics[name])
    assert 0 <= metrics["agreement"] <= 1
    assert {"mean_area", "pixel_auc", "pointing", "controls"} <= set(metrics["saliency"])
    assert set(metrics["saliency"]["controls"]) == {"mean_map", "centred_gaussian", "other_photograph"}


def test_a_loaded_run_predicts_as_it_was_measured(run: Path) -> None:
    found = load_run(run)
    photos = found.photographs("val")
    model = found.load_model()
    with torch.no_grad():
        probabilities, saliency = model(torch.from_numpy(np.array(photos.images)))
    assert probabilities.shape == (len(photos.images), len(found.classes))
    assert saliency.shape[1:] == (16, 16)
    assert float(saliency.min()) >= 0
    assert float(saliency.max()) <= 1
    right = float((probabilities.argmax(1).numpy() == photos.labels).mean())
    assert right == pytest.approx(found.metrics["student"]["accuracy"])


def test_a_run_whose_photographs_are_gone_is_an_error_that_names_the_data_option(run: Path, tmp_path: Path) -> None:
    found = load_run(run)
    moved = type(found)(**{**found.__dict__, "data": tmp_path / "gone"})
    with pytest.raises(DataError, match="no longer") as caught:
        moved.photographs("val")
    assert "--data" in caught.value.hint


def test_a_finished_run_is_never_overwritten(dataset: Path, teacher: Path, run: Path) -> None:
    before = (run / "student.safetensors").read_bytes()
    with pytest.raises(SettingsError, match="finished run"):
        _call(train, dataset, *_student(teacher, run))
    assert (run / "student.safetensors").read_bytes() == before


def test_a_mask_column_scores_the_saliency_of_the_validation_photographs(
    dataset: Path, teacher: Path, tmp_path: Path
) -> None:
    with (dataset / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    shutil.copytree(dataset, tmp_path / "c")
    with (tmp_path / "c" / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "lesions"])
        writer.writeheader()
        writer.writerows(r | {"lesions": f"masks/{Path(r['image']).stem}_ALL.png"} for r in rows)
    arguments = [*_student(teacher, tmp_path / "s"), "--mask-column", "lesions"]
    saliency = _call(train, tmp_path / "c", *arguments)["saliency"]
    assert 0 <= saliency["pixel_auc"] <= 1
    assert saliency["masks"] == "column lesions"


@pytest.mark.parametrize("method", ["hinton", "supervised"])
def test_the_baselines_train_by_the_same_loop_and_are_not_deployable(
    dataset: Path, teacher: Path, tmp_path: Path, method: str
) -> None:
    metrics = _call(train, dataset, *_student(teacher, tmp_path / "b"), "--method", method)
    assert metrics["student"]["n"] > 0
    with pytest.raises(DataError, match="without explainer"):
        load_run(tmp_path / "b").load_model()


def test_a_run_killed_by_the_system_resumes_to_the_same_weights(dataset: Path, teacher: Path, tmp_path: Path) -> None:
    def start(out: Path) -> subprocess.Popen[bytes]:
        longer = ["--epochs", "2", "--joint-epochs", "2", "--threads", "1"]
        arguments = ["--data", str(dataset), *TINY, *_student(teacher, out), *longer]
        code = "import sys; from medtex_edge.commands.train import train; train(sys.argv[1:])"
        call = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))

    whole = start(tmp_path / "whole")
    assert whole.wait(240) == 0, whole.stderr.read() if whole.stderr else ""
    killed = start(tmp_path / "killed")
    limit = time.monotonic() + 240
    while not (tmp_path / "killed" / "checkpoint.pt").exists():
        assert killed.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "model.json").exists()
    again = start(tmp_path / "killed")
    assert again.wait(240) == 0, again.stderr.read() if again.stderr else ""
    for name in ("student", "explainer"):
        a, b = (load_file(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "killed"))
        for key, value in a.items():
            assert torch.equal(value, b[key]), f"{name}: {key}"


GRADES = ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("classes", "wanted", "chosen"),
    [
        (GRADES, "", (2, 3, 4)),
        (GRADES, "3+", (3, 4)),
        (("0", "1"), "", (1,)),
        (("0", "2", "4"), "", (1, 2)),  # a grade that no photograph has moves no other one
        (("0_none", "2_mild", "10_worst"), "2+", (1, 2)),
        (("1", "2", "3", "4", "5"), "3+", (2, 3, 4)),
        (("1", "2", "3", "4", "5"), "3", (2,)),
        (("1", "2", "3", "4", "5"), (3, 4), (3, 4)),  # indices, as a run's card holds them
    ],
)
def test_a_number_means_the_grade_of_that_number(
    classes: tuple[str, ...], wanted: str | tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    assert referable_classes(classes, True, wanted) == chosen


def test_classes_that_are_names_are_chosen_by_name() -> None:
    names = ("amd", "dme", "normal")
    assert referable_classes(names, False, "dme") == (1,)
    assert referable_classes(names, False, "DME, amd") == (0, 1)
    assert referable_classes(("DR, severe", "normal"), False, "DR, severe") == (0,)


@pytest.mark.parametrize(
    ("classes", "ordered", "wanted", "question"),
    [
        (("DR", "No_DR"), False, "", "does DR or No_DR mean disease?"),
        (("Mild", "Moderate", "No_DR", "Severe"), False, "", "which of them mean disease?"),
        (("Mild", "No_DR", "Severe"), False, "2+", "are no grades"),
        (("Mild", "No_DR", "Severe"), False, "1", "there is no class '1'"),
        (("1", "2", "3", "4", "5"), True, "", "do not count from 0"),
        (GRADES, True, "amd", "there is no class 'amd'"),
        (GRADES, True, "0+", "some, not all"),
        (GRADES, True, "7+", "one of the grades"),
    ],
)
def test_which_classes_mean_disease_is_requested_and_never_guessed(
    classes: tuple[str, ...], ordered: bool, wanted: str, question: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(question)):
        referable_classes(classes, ordered, wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: torch sees none")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_same_command_trains_on_a_gpu(dataset: Path, teacher: Path, tmp_path: Path, precision: str) -> None:
    metrics = _call(train, dataset, *_student(teacher, tmp_path / "gpu"), "--precision", precision)
    assert metrics["student"]["n"] > 0
    card = json.loads((tmp_path / "gpu" / "model.json").read_text())
    assert not card["provenance"]["device"].startswith("CPU")
