"""The baselines: the terms and steps of each training, and the content of its run folder."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from run_kit import STUDENT, write_photographs
from torch.utils.flop_counter import FlopCounterMode

from medtex_edge.commands.train import train, train_teacher
from medtex_edge.commands.training_options import SLIM
from medtex_edge.errors import DataError, SettingsError
from medtex_edge.train.config import METHOD_WEIGHTS, METHODS, TeachConfig, TrainConfig, Weights, config_from
from medtex_edge.train.losses.objective import l_soft
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.run_folder import load_run

TINY = ["--size", "64", "--batch", "8", "--precision", "fp32", "--json"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    write_photographs(folder / "photographs", 50)
    arguments = ["--model", STUDENT, "--model-weights", "none", "--epochs", "1", "--out", str(folder / "teacher")]
    _call(train_teacher, folder, *arguments)
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Path]:
    for method in METHODS:
        _call(
            train, folder, "--teacher", str(folder / "teacher"), "--student", STUDENT, "--student-weights", "none",
            "--epochs", "2", "--joint-epochs", "2", "--method", method,
            "--out", str(folder / method),
        )  # fmt: skip
    return {method: folder / method for method in METHODS}


def _call(command: Any, folder: Path, *arguments: str) -> None:
    result = CliRunner().invoke(
        command, ["--data", str(folder / "photographs"), *TINY, *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output


def _history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_method_but_the_masked_student_takes_the_same_number_of_steps(runs: dict[str, Path]) -> None:
    epochs = {method: len(_history(run)) for method, run in runs.items()}
    assert epochs == {method: 2 if method == "masked" else 4 for method in METHODS}


def test_each_method_is_trained_by_its_own_terms(runs: dict[str, Path]) -> None:
    terms = {m: {t for t in ("out", "mid", "label", "local") if _history(r)[-1].get(t)} for m, r in runs.items()}
    assert terms["hinton"] == {"out", "label"}
    assert terms["vid"] == {"mid", "label"}
    assert terms["paper"] == {"out", "mid"}
    assert terms["supervised"] == {"label"}
    assert "local" not in terms["masked"]
    assert {"out", "local"} <= terms["medtex"]


def test_methods_with_an_explainer_can_be_exported_and_the_others_give_their_student(runs: dict[str, Path]) -> None:
    for method, path in runs.items():
        run = load_run(path)
        assert run.load_student()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
        if method in ("medtex", "paper"):
            assert run.load_model().size == 64
        else:
            with pytest.raises(DataError, match="without explainer"):
                run.load_model()


@torch.no_grad()
def test_the_paper_s_model_gets_the_mean_colour_where_its_mask_is_zero(runs: dict[str, Path]) -> None:
    model = load_run(runs["paper"]).load_model()
    images = torch.from_numpy(load_run(runs["paper"]).photographs("val").images[:4].copy())
    x = model.normalise(images.permute(0, 3, 1, 2).float() / 255)
    probabilities, saliency = model(images)
    u = F.interpolate(saliency[:, None], (64, 64), mode="bilinear", align_corners=False)
    expected = torch.softmax(model.student(u * x) / model.temperature, dim=1)
    assert torch.allclose(probabilities, expected, atol=1e-5)
    assert not load_run(runs["medtex"]).load_model().plain


def test_a_run_read_again_has_the_method_s_weights(runs: dict[str, Path]) -> None:
    for method, path in runs.items():
        assert load_run(path).config.weights == METHOD_WEIGHTS[method]
        assert json.loads((path / "model.json").read_text())["method"] == method


def test_a_given_weight_changes_that_term_alone() -> None:
    config = config_from(TrainConfig, {"method": "vid", "weights": {"mid": 0.5}})
    assert config.weights == Weights(out=0, mid=0.5, label=1, local=0, budget=0, tv=0)
    assert TrainConfig(method="paper").baseline == "mean"
    assert TrainConfig().baseline == "blur"
    with pytest.raises(SettingsError, match="baseline"):
        TrainConfig(baseline="black")


def test_a_run_of_an_earlier_version_with_l_order_off_is_read_and_one_with_it_on_is_refused() -> None:
    config = config_from(TrainConfig, {"weights": {"mid": 0.5, "order": 0.0}})
    assert config.weights == replace(METHOD_WEIGHTS["medtex"], mid=0.5)
    with pytest.raises(SettingsError, match="L_order no longer exists"):
        config_from(TrainConfig, {"weights": {"order": 0.3}})


def test_a_loss_of_labels_that_would_change_nothing_is_refused(folder: Path) -> None:
    arguments = ["--teacher", str(folder / "teacher"), "--label-loss", "ordinal", "--out", str(folder / "refused")]
    with pytest.raises(SettingsError, match="uses no labels"):
        _call(train, folder, *arguments)


def test_labels_are_learnt_by_the_chosen_loss_in_teacher_and_student(folder: Path) -> None:
    labels = ["--label-loss", "ordinal", "--class-weights", "balanced", "--epochs", "1"]
    weightless = ["--model", STUDENT, "--model-weights", "none"]
    _call(train_teacher, folder, *weightless, *labels, "--out", str(folder / "ordinal-teacher"))
    _call(
        train, folder, "--teacher", str(folder / "ordinal-teacher"), "--student", STUDENT, "--student-weights", "none",
        "--method", "supervised", *labels, "--joint-epochs", "0",
        "--out", str(folder / "ordinal"),
    )  # fmt: skip
    assert load_run(folder / "ordinal").config.label_loss == "ordinal"


def test_the_softened_loss_is_hintons_on_the_teachers_logits() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(6, 5), torch.randn(6, 5)
    for temperature in (1.0, 4.0):
        p, q = (torch.softmax(z / temperature, 1) for z in (teacher, student))
        known = temperature**2 * (p * (p.log() - q.log())).sum(1).mean()
        assert torch.allclose(l_soft(torch.softmax(teacher, 1), student, temperature), known, atol=1e-5)
    assert float(l_soft(torch.softmax(student, 1), student, 4.0)) == pytest.approx(0, abs=1e-5)


def test_a_certain_teacher_gives_a_finite_loss() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0]])
    assert torch.isfinite(l_soft(certain, torch.tensor([[-200.0, 100.0, 100.0]]), 4.0))


@pytest.mark.parametrize(("cut", "channels"), [(2, 24), (4, 80), (6, 192)])
def test_a_cut_student_keeps_its_pretrained_stages_and_answers_with_features(cut: int, channels: int) -> None:
    whole = Classifier("tf_efficientnet_lite0", 3, weights="none")
    torch.manual_seed(3)
    student = Classifier(f"tf_efficientnet_lite0:stages={cut}", 3, weights="none").eval()
    assert len(student.net.blocks) == cut
    assert set(student.net.blocks.state_dict()) < set(whole.net.blocks.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits, features = student.with_features(x)
        assert torch.allclose(student(x), logits, atol=1e-6)
    assert logits.shape == (2, 3)
    assert [f.shape[1] for f in features] == list(student.feature_channels)
    assert student.feature_channels[-1] == channels


def test_a_cut_that_makes_no_sense_is_refused() -> None:
    for wrong in ("tf_efficientnet_lite0:stages=7", "tf_efficientnet_lite0:blocks=2", "resnet18:stages=2"):
        with pytest.raises(SettingsError, match=wrong.split(":")[0]):
            Classifier(wrong, 3, weights="none")


def test_the_slim_student_costs_at_most_15_percent_of_the_teacher() -> None:
    teacher = _macs(Classifier("tf_efficientnet_lite2", 5, weights="none"), TeachConfig().size)
    slim = _macs(Classifier(str(SLIM["student"]), 5, weights="none"), int(str(SLIM["size"])))
    assert slim <= 0.15 * teacher


@torch.no_grad()
def _macs(net: Classifier, size: int) -> float:
    with FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2
