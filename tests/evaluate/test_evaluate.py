"""`medtex-edge evaluate` on small real runs: what it writes, what it refuses, and that it trusts no input."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from bundles import CLASSES as BUNDLE_CLASSES
from bundles import bundle, disc
from run_kit import CONFIG, model, write_photographs, write_run, write_teacher

from medtex_edge.cli import main
from medtex_edge.errors import DataError
from medtex_edge.evaluate.evaluator import evaluator_config, load_evaluator
from medtex_edge.evaluate.masked_predictor import MaskedPredictor
from medtex_edge.evaluate.subject import subject_of_run
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.teacher import load_teacher
from medtex_edge.train.run_folder import load_run
from medtex_edge.train.synthetic.dataset import write_dataset

CPU = Compute(torch.device("cpu"), None)
MASKED = replace(CONFIG, method="masked")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its teacher, an evaluator, photographs and lesion masks."""
    folder = tmp_path_factory.mktemp("evaluate")
    photographs = write_photographs(folder / "photos", 40)
    write_teacher(folder / "teacher")
    write_run(folder / "run", photographs, teacher=str(folder / "teacher"))
    write_run(folder / "evaluator", photographs, model(seed=3), config=MASKED)
    write_dataset(folder / "lesions", count=6, size=96)
    return folder


def evaluate(place: Path, *words: str | Path, out: str, subject: str | Path = "run", evaluator: bool = True) -> int:
    chosen = ["--evaluator", place / "evaluator"] if evaluator else ["--evaluator-epochs", "0"]
    return main(["evaluate", str(place / subject), *map(str, chosen), "--out", str(place / out), *map(str, words)])


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    """One evaluation with everything but the slowest attribution methods."""
    assert evaluate(place, "--masks", place / "lesions", "--against", "gradcam", "--quick", out="report") == 0
    evaluation: dict[str, Any] = json.loads((place / "report" / "evaluation.json").read_text("utf-8"))
    return evaluation


def test_the_answer_is_that_of_the_deployed_model_on_its_validation_photographs(
    place: Path, found: dict[str, Any]
) -> None:
    run = load_run(place / "run")
    photos = run.photographs("val")
    with torch.no_grad():
        probabilities, _ = run.load_model()(torch.from_numpy(np.array(photos.images)))
    right = float((probabilities.numpy().argmax(1) == photos.labels).mean())
    student = found["answer"]["models"]["student"]
    assert student["accuracy"] == pytest.approx(right)
    assert student["n"] == found["data"]["n"] == len(photos.keys) == 8
    assert student["operating_point"]["threshold"] == run.operating_point.threshold
    assert found["answer"]["models"]["teacher"]["operating_point"]["threshold"] == 0.4
    assert found["answer"]["agreement"]["label"]["n"] == 8
    assert found["data"]["split"] == "val"
    assert found["data"]["synthetic"] is False


def test_ours_is_compared_with_baselines_of_both_models_and_with_controls(found: dict[str, Any]) -> None:
    rows = found["explanation"]["rows"]
    assert (rows[0]["name"], rows[0]["kind"]) == ("ours", "ours")
    assert {(row["name"], row["of"]) for row in rows if row["kind"] == "rival"} == {
        ("gradcam", "student"),
        ("gradcam", "teacher"),
    }
    controls = {row["name"] for row in rows if row["kind"] == "control"}
    assert controls == {"mean_map", "centred_gaussian", "other_photograph", "uniform"}
    for row in rows:
        assert {"deletion", "insertion", "sparsity"} <= set(row["measures"]), row["name"]
    ours = rows[0]["measures"]
    assert {"fidelity_label", "fidelity_verdict", "area", "randomisation", "max_sensitivity"} <= set(ours)
    assert not any("fidelity_label" in row["measures"] for row in rows[1:])
    uniform = next(row for row in rows if row["name"] == "uniform")["measures"]
    assert uniform["sparsity"]["value"] == 0
    assert set(ours) <= set(found["explanation"]["measures"])


def test_lesions_are_scored_at_every_layer_of_the_baselines(found: dict[str, Any]) -> None:
    lesions = found["lesions"]
    baselines = [row for row in lesions["rows"] if row["kind"] == "rival"]
    assert len({(row["of"], row["layer"]) for row in baselines}) == len(baselines) > 8
    assert lesions["n"] == 4  # two of the six drawn eyes are healthy
    uniform = next(row for row in lesions["rows"] if row["name"] == "uniform")["measures"]
    assert uniform["pixel_auc"]["value"] == pytest.approx(0.5)
    for kind in lesions["kinds"].values():
        assert "ours" in kind


def test_the_evaluator_is_named_and_its_warning_is_given(found: dict[str, Any]) -> None:
    evaluator = found["explanation"]["evaluator"]
    assert evaluator["backbone"] == CONFIG.student
    assert "student's backbone" in evaluator["note"]
    assert any("lesion masks may be among" in line for line in found["warnings"])
    assert any("chosen on the validation" in line for line in found["warnings"])


def test_the_folder_holds_report_maps_and_gallery_and_names_no_folder_of_this_machine(
    place: Path, found: dict[str, Any]
) -> None:
    report = place / "report"
    assert (report / "report.html").stat().st_size > 10_000
    with np.load(report / "maps.npz", allow_pickle=False) as maps:
        assert maps["photographs/ours"].shape == (8, 16, 16)
        assert any(name.startswith("lesions/gradcam teacher") for name in maps)
    assert found["gallery"]
    assert all((report / entry["file"]).is_file() for entry in found["gallery"])
    text = (report / "evaluation.json").read_text("utf-8") + (report / "report.html").read_text("utf-8")
    assert str(place) not in text


def test_the_cost_of_each_part_is_counted(found: dict[str, Any]) -> None:
    cost = found["cost"]
    assert cost["student"]["parameters"] == cost["teacher"]["parameters"]  # the same backbone
    assert 0 < cost["explainer"]["macs"] < cost["graph"]["macs"]
    assert cost["explainer_over_student"] == pytest.approx(cost["explainer"]["macs"] / cost["student"]["macs"])


def test_groups_are_measured_apart(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = place / "photos"
    with (photographs / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:24]
    other = place / "grouped"
    other.mkdir()
    (other / "images").symlink_to(photographs / "images")
    with (other / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], "camera"])
        writer.writeheader()
        writer.writerows({**row, "camera": "A" if i % 10 < 5 else "B"} for i, row in enumerate(rows))
    words = ("--data", other, "--split", "all", "--group-column", "camera", "--against", "", "--quick", "--json")
    assert evaluate(place, *words, out="grouped-report", evaluator=False) == 0
    captured = capsys.readouterr()
    evaluation = json.loads(captured.out)
    groups = evaluation["answer"]["groups"]["camera"]
    assert {name: group["n"] for name, group in groups.items()} == {"A": 14, "B": 10}
    assert any(line.startswith("19 of these") and "trained on" in line for line in evaluation["warnings"])
    assert evaluate(place, "--data", other, "--group-column", "site", "--against", "", out="x") == 5
    assert "site" in capsys.readouterr().err


@pytest.fixture(scope="module")
def clinic(place: Path) -> Path:
    """Photographs of another clinic, by class name, one class of three missing, and nothing to train on."""
    folder = place / "clinic"
    for index in range(14):
        name = BUNDLE_CLASSES[0 if index % 2 else 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name / f"{index}.png"), disc(96, lesion=index % 2 == 0, seed=index))
    return folder


def test_a_bundle_answers_through_its_engine_on_another_clinics_photographs(place: Path, clinic: Path) -> None:
    bundle(place / "tiny.medtex")
    words = ["--data", str(clinic), "--split", "all", "--out", str(place / "bundle-report")]
    assert main(["evaluate", str(place / "tiny.medtex"), *words]) == 0
    found = json.loads((place / "bundle-report" / "evaluation.json").read_text("utf-8"))
    student = found["answer"]["models"]["student"]
    assert student["auc_referable"] == 1  # that graph sees red, and the severe ones are red
    assert (student["n"], student["positives"]) == (14, 7)
    assert found["answer"]["models"]["teacher"] is None
    assert found["subject"]["kind"] == "bundle"
    assert found["explanation"]["rows"][0]["name"] == "ours"
    assert not any(row["kind"] == "rival" for row in found["explanation"]["rows"])
    warnings = " ".join(found["warnings"] + found["explanation"]["warnings"])
    assert "--teacher" in warnings
    assert "No independent evaluator" in warnings


def test_a_method_without_explainer_has_its_answers_measured(place: Path) -> None:
    words = ("--against", "", "--quick", "--teacher", place / "teacher")
    assert evaluate(place, *words, out="plain", subject="evaluator", evaluator=False) == 0
    found = json.loads((place / "plain" / "evaluation.json").read_text("utf-8"))
    assert found["subject"]["method"] == "masked"
    rows = found["explanation"]["rows"]
    assert not any(row["kind"] == "ours" for row in rows)
    assert found["explanation"]["leakage"] is None


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--data", "nowhere"), 5, "nowhere"),
        (("--against", "smoothgrad"), 2, "'smoothgrad'"),
        (("--masks", "nowhere"), 5, "images/ and masks/"),
        (("--evaluator", "RUN"), 5, "'medtex'"),
        (("--teacher", "nowhere"), 8, "nowhere"),
        (("--split", "test"), 5, "--split all"),
    ],
)
def test_what_cannot_be_done_is_reported_with_a_hint(
    place: Path, words: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(place / "run") if word == "RUN" else word for word in words]
    assert evaluate(place, *given, out="refused") == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert not (place / "refused" / "evaluation.json").exists()


def test_photographs_of_other_classes_are_refused(
    place: Path, clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(place, "--data", clinic, "--split", "all", "--against", "", out="refused") == 5
    assert "has the class 'healthy'" in capsys.readouterr().err


def test_a_damaged_bundle_and_no_subject_at_all_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = bundle(tmp_path / "whole.medtex").read_bytes()
    (tmp_path / "half.medtex").write_bytes(whole[: len(whole) // 2])
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "half.medtex"]) == 3
    assert main(["evaluate", "none.medtex"]) == 3
    assert main(["evaluate", "none"]) == 5
    assert main(["evaluate"]) == 2
    assert capsys.readouterr().err.count("error: ") == 4


def test_a_missing_package_is_named_with_its_extra_before_anything_is_measured(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert evaluate(place, out="refused") == 2
    shown = capsys.readouterr().err
    assert "pip install 'medtex-edge[evaluate]'" in shown
    assert "pytorch_grad_cam" in shown


def test_the_student_under_its_own_mask_answers_as_deployed(place: Path) -> None:
    run = load_run(place / "run")
    subject = subject_of_run(run, CPU)
    images = np.array(run.photographs("val").images)
    probabilities, maps = subject.read(images)
    assert maps is not None
    assert subject.predictor is not None
    assert subject.whole is not None
    assert np.allclose(subject.predictor(images, maps), probabilities, atol=1e-5)
    assert np.allclose(subject.predictor(images, np.ones_like(maps)), subject.whole(images), atol=1e-5)


def test_a_teacher_sees_the_whole_photograph_through_an_open_mask_and_blur_through_a_shut_one(place: Path) -> None:
    predictor = MaskedPredictor.of_teacher(load_teacher(str(place / "teacher"), ("0", "1", "2"), CPU), CPU)
    images = np.array(load_run(place / "run").photographs("val").images)
    shut = np.zeros((len(images), 16, 16), np.float32)
    assert np.allclose(predictor(images, 1 - shut), predictor.whole(images), atol=1e-5)
    # What is left of a photograph without its detail is the same as of that photograph blurred beforehand.
    blurred = np.stack([cv2.blur(image, (3, 3)) for image in images])
    assert np.abs(predictor(images, shut) - predictor(blurred, shut)).max() < 0.05


def test_a_batch_wholly_hidden_or_shown_is_predicted_once_and_any_other_every_time(place: Path) -> None:
    subject = subject_of_run(load_run(place / "run"), CPU)
    assert subject.predictor is not None
    counted: list[int] = []
    predictor = subject.predictor

    def predict(x: torch.Tensor, m: torch.Tensor | None) -> torch.Tensor:
        counted.append(len(x))
        return predictor.predict(x, m)

    cached = MaskedPredictor(predict, CPU).cached()
    images = np.array(load_run(place / "run").photographs("val").images)
    some = np.zeros((len(images), 16, 16), np.float32)
    some[:, :8] = 1
    for masks in (some * 0, some, some * 0 + 1, some * 0 + 0.5):
        first, second = cached(images, masks), cached(images, masks)
        assert np.array_equal(first, second)
        assert np.allclose(first, predictor(images, masks), atol=1e-6)
    assert len(counted) == 1 + 2 + 1 + 2
    other = np.ascontiguousarray(images[::-1])
    assert np.allclose(cached(other, some * 0), predictor(other, some * 0), atol=1e-6)


def test_an_evaluator_has_another_backbone_and_seed_than_the_evaluated_student() -> None:
    for student in ("tf_efficientnet_lite0", "tf_efficientnet_lite2", "mobilenetv3_small_100"):
        config = evaluator_config(student, 224, 4)
        assert config.method == "masked"
        assert config.student != student
        assert config.seed != 4
        assert config.size == 224


def test_an_evaluator_of_other_classes_is_refused(place: Path) -> None:
    with pytest.raises(DataError, match="answers 0, 1, 2"):
        load_evaluator(place / "evaluator", ("a", "b"))
    run, evaluator = load_evaluator(place / "evaluator", ("0", "1", "2"))
    images = np.array(run.photographs("val").images)
    assert MaskedPredictor.of_student(evaluator, CPU).whole(images).shape == (8, 3)
