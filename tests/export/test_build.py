"""From a run folder to a bundle: the report, the golden vectors, the mistakes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_kit
import torch
from export_kit import spoiled

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.errors import DataError, ParityError
from medtex_edge.export import build
from medtex_edge.export.estimate.latency import estimate
from medtex_edge.files import without_folders
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import onnxruntime
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.train.run_folder import load_run

REAL = Path(__file__).parents[2] / "../shared/data/idrid"


def test_the_report_holds_parity_metrics_cost_and_provenance(exported: Path) -> None:
    report = Bundle.open(exported).report
    assert report["metrics"]["student"]["auc_referable"] == 0.91
    for name, engines in (("fp32", {"onnxruntime"}), ("fp16", {"onnxruntime", "rounded"})):
        entry = report["precisions"][name]
        assert set(entry["parity"]) == engines
        assert entry["bytes"] == len(Bundle.open(exported).model(name))
        assert entry["estimate"] == estimate(Bundle.open(exported).model(name))
        for found in entry["parity"].values():
            assert found["photographs"] == 30
            assert found["label_flips"] == 0
            assert found["probability"] <= entry["bounds"]["probability"]
        assert entry["bytes"] == len(Bundle.open(exported).model(name))
        assert entry["cpu_ms"] > 0
    assert report["photographs"] == {"val": 6, "train": 24}  # fewer than 64 of the validation split
    assert report["provenance"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert report["provenance"]["run"]["data_fingerprint"]
    assert report["cost"]["student_multiply_adds"] > 0


def test_golden_vectors_are_the_trained_models_own_answers(exported: Path, run: Path) -> None:
    made = Bundle.open(exported)
    with torch.inference_mode():
        probabilities, saliency = load_run(run).load_model()(torch.from_numpy(made.golden.images.copy()))
    np.testing.assert_allclose(made.golden.probabilities, probabilities.numpy(), atol=1e-6)
    np.testing.assert_allclose(made.golden.saliency, saliency.numpy(), atol=1e-6)
    assert len(made.golden) >= 5
    for name in made.precisions:
        with onnxruntime.open(made, precision=name) as backend:
            check_golden(backend, made)


def test_the_same_run_gives_the_same_bundle(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("a", "b"):
        assert main(["export", str(run), "--fp16", "--out", str(tmp_path / f"{name}.medtex")]) == 0
    assert (tmp_path / "a.medtex").read_bytes() == (tmp_path / "b.medtex").read_bytes()
    made = Bundle.open(tmp_path / "a.medtex")
    assert made.contract.created == "2023-11-14T22:13:20Z"
    assert all("cpu_ms" not in entry for entry in made.report["precisions"].values())


def test_without_arguments_the_newest_run_becomes_a_bundle_here(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(run, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert main(["export"]) == 0
    assert Bundle.open(tmp_path / "toy.medtex" if (tmp_path / "toy.medtex").exists() else "mine.medtex").precisions == (
        "fp32",
    )
    assert "medtex-edge run mine.medtex --camera" in capsys.readouterr().out
    assert main(["verify"]) == 0
    assert main(["inspect"]) == 0


def test_json_goes_to_stdout_alone(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--json", "--out", str(tmp_path / "toy.medtex")]) == 0
    value = json.loads(capfd.readouterr().out)
    assert value["bundle"] == str(tmp_path / "toy.medtex")
    assert value["precisions"]["fp32"]["parity"]["onnxruntime"]["label_flips"] == 0


def test_photographs_that_were_moved_are_requested_and_used(
    run: Path,
    photographs: Path,
    tmp_path: Path,
    quick: Callable[[bytes | None], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(photographs, moved)
    text = (run / "config.toml").read_text("utf-8").replace(str(photographs.resolve()), "/nowhere/at/all")
    shutil.copytree(run, tmp_path / "runs" / "copy")
    (tmp_path / "runs" / "copy" / "config.toml").write_text(text, "utf-8")
    command = ["export", str(tmp_path / "runs" / "copy"), "--out", str(tmp_path / "x.medtex")]
    assert main(command) == 5
    assert "--data DIR" in capfd.readouterr().err
    assert main([*command, "--data", str(moved)]) == 0


def test_other_photographs_without_a_val_split_prove_an_export_too(
    run: Path, tmp_path: Path, quick: Callable[[bytes | None], None]
) -> None:
    others = run_kit.write_photographs(tmp_path / "others", 24, split=False)
    assert main(["export", str(run), "--data", str(others), "--int8", "--out", str(tmp_path / "x.medtex")]) == 0
    report = Bundle.open(tmp_path / "x.medtex").report
    assert report["precisions"]["fp32"]["parity"]["onnxruntime"]["photographs"] == 24
    assert (
        report["precisions"]["int8"]["calibration"]["photographs"] == 19
    )  # all but every fifth, which counts as validation


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["export", "nowhere"], 5, "nowhere is no finished run"),
        (["export", "RUN", "--out", "model.onnx"], 2, "ends in .medtex"),
        (["export", "RUN", "--out", "folder.medtex"], 2, "is a folder"),
        (["export", "RUN", "--out", "file/x.medtex"], 9, "cannot write"),
        (["export"], 2, "no finished run"),
        (["verify"], 2, "no bundle"),
        (["verify", "missing.medtex"], 3, "No such file"),
        (["inspect", "file"], 3, "a zip archive"),
    ],
)
def test_mistakes_are_one_line_and_their_exit_code(
    arguments: list[str], code: int, fragment: str, run: Path, tmp_path: Path, quick: Callable[[bytes | None], None],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.medtex").mkdir()
    (tmp_path / "file").write_text("hello")
    assert main([str(run) if a == "RUN" else a for a in arguments]) == code
    error = capfd.readouterr().err
    assert fragment in error
    assert "Traceback" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.medtex"]


def test_a_run_whose_card_cannot_be_a_contract_is_refused(run: Path, photographs: Path, tmp_path: Path) -> None:
    bad = run_kit.write_run(tmp_path / "runs" / "bad", photographs, referable=[0, 1, 2])
    with pytest.raises(DataError, match="referable"):
        build.contract_of(load_run(bad))


def test_golden_frames_that_a_precision_does_not_reproduce_are_refused(
    full: bytes, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_run(run).load_model()
    agreed = build.contract_of(load_run(run))
    right = build.golden_of(trained, agreed, {"fp32": full})
    whole = build.golden_frames(64)
    assert len(right) == len(whole)
    wrong = spoiled(full, r"explainer\.decoder\.head\.weight", lambda weight: -weight)
    with pytest.raises(ParityError, match="golden vectors"):
        build.golden_of(trained, agreed, {"fp32": full, "fp16": wrong})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ann/eyes/labels.csv", "labels.csv"),
        ("medtex-edge export /srv/ward 7/run --data=/mnt/x/y", "medtex-edge export ward 7/run --data=y"),
        ("C:\\Users\\ann\\model.onnx", "model.onnx"),
        ("file:///var/tmp/x", "x"),
        ("~ann/x/y", "y"),
        ("runs/teacher", "runs/teacher"),
        ("../shared/data/idrid", "../shared/data/idrid"),
        ("fov-square-area/1", "fov-square-area/1"),
        ("a ratio of 3/4, 1/2", "a ratio of 3/4, 1/2"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_folders_are_taken_from_absolute_paths_and_from_nothing_else(text: str, left: str) -> None:
    assert without_folders({"a": [text]}) == {"a": [left]}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photographs are not next to the project (../shared/data/idrid)")
def test_real_photographs_pass_the_gate_in_both_precisions(
    tmp_path: Path, quick: Callable[[bytes | None], None]
) -> None:
    with (REAL / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for grade in "024" for row in [row for row in rows if row["grade"] == grade][:6]]
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "images").symlink_to((REAL / "images").resolve())
    lines = [
        f"{row['image']},{'024'.index(row['grade'])},{'val' if i % 3 == 0 else 'train'}" for i, row in enumerate(chosen)
    ]
    (folder / "labels.csv").write_text("image,label,split\n" + "\n".join(lines) + "\n", "utf-8")
    _gate_of(folder, tmp_path)


def test_drawn_photographs_pass_the_gate_in_both_precisions(
    tmp_path: Path, photographs: Path, quick: Callable[[bytes | None], None]
) -> None:
    _gate_of(photographs, tmp_path)


def _gate_of(photographs: Path, folder: Path) -> None:
    from rich.console import Console

    path = run_kit.write_run(folder / "runs" / "gate", photographs)
    with ProgressDisplay(Console(quiet=True)) as steps:
        built = build.build(load_run(path), folder / "x.medtex", fp16=True, data=None, command="test", steps=steps)
    found = built.report["precisions"]["fp16"]["parity"]
    assert all(parity_of["label_flips"] == 0 and parity_of["photographs"] >= 18 for parity_of in found.values())
