"""Other runs and a less-data curve in an evaluation: named by what they change, and on the same photographs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from run_kit import CONFIG, write_photographs, write_run

from medtex_edge.cli import main
from medtex_edge.errors import DataError
from medtex_edge.evaluate.compare import other_runs, read_curve, variant
from medtex_edge.files import write_json
from medtex_edge.train.config import METHOD_WEIGHTS, TrainConfig, Weights
from medtex_edge.train.run_folder import load_run


def _weights(**changes: float) -> TrainConfig:
    return replace(CONFIG, weights=replace(Weights(), **changes))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (CONFIG, "ours"),
        (replace(CONFIG, seed=7, precision="fp32"), "ours"),
        (_weights(local=0.0), "without L_local"),
        (_weights(budget=0.0, tv=0.0), "without the budget, without total variation"),
        (_weights(mid=0.5), "mid x 0.5"),
        (replace(CONFIG, size=96, joint_epochs=3), "size 96, joint epochs 3"),
        (TrainConfig(student=CONFIG.student, student_weights="none", size=64, stages=3, width=8, method="vid"), "VID"),
        (
            replace(CONFIG, method="paper", baseline="mean", weights=METHOD_WEIGHTS["paper"]),
            "MED-TEX as in the paper",
        ),
        (
            replace(CONFIG, method="paper", baseline="mean", weights=replace(METHOD_WEIGHTS["paper"], mid=0.0)),
            "MED-TEX as in the paper, without L_mid",
        ),
    ],
)
def test_a_run_is_named_by_what_it_changes(config: TrainConfig, name: str) -> None:
    assert variant(config, CONFIG) == name


@pytest.mark.parametrize("term", asdict(Weights()))
def test_a_run_without_any_one_term_is_named_by_it(term: str) -> None:
    assert variant(_weights(**{term: 0.0}), _weights(**{term: 1.0})).startswith("without ")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    photographs = write_photographs(tmp_path / "photos", 20)
    for name, config, auc, pixel, masks in (
        ("ours-1", replace(CONFIG, seed=1), 0.92, 0.78, "lesions"),
        ("ours-0", CONFIG, 0.91, 0.77, "lesions"),
        ("no_local", _weights(local=0.0), 0.9, 0.5, "lesions"),
        ("elsewhere", _weights(tv=0.0), 0.93, 0.99, "other lesions"),
    ):
        write_run(tmp_path / name, photographs, config=config)
        saliency = {"masks": masks, "pixel_auc": pixel, "mean_area": 0.2}
        write_json(tmp_path / name / "metrics.json", {"student": {"auc_referable": auc}, "saliency": saliency})
    return tmp_path


def test_seeds_are_one_row_in_order_and_the_evaluated_run_comes_first(place: Path) -> None:
    found = other_runs(place / "ours-1", [place / "no_local", place / "ours-0"])
    assert found["rows"] == [
        {"name": "ours", "auc_referable": [0.91, 0.92], "pixel_auc": [0.77, 0.78], "mean_area": [0.2, 0.2]},
        {"name": "without L_local", "auc_referable": [0.9], "pixel_auc": [0.5], "mean_area": [0.2]},
    ]


def test_maps_measured_on_other_lesions_are_not_compared_with_ours(place: Path) -> None:
    rows = other_runs(place / "ours-0", [place / "elsewhere"])["rows"]
    assert rows[1] == {"name": "without total variation", "auc_referable": [0.93], "mean_area": [0.2]}


def test_a_figure_that_is_no_number_is_left_out(place: Path) -> None:
    (place / "no_local" / "metrics.json").write_text(
        '{"student": {"auc_referable": NaN}, "saliency": {"pointing": "1"}}'
    )
    assert other_runs(place / "ours-0", [place / "no_local"])["rows"][1] == {"name": "without L_local"}


def test_runs_on_other_photographs_are_refused(place: Path) -> None:
    write_run(place / "foreign", write_photographs(place / "others", 25))
    with pytest.raises(DataError, match="other photographs"):
        other_runs(place / "ours-0", [place / "foreign"])
    with pytest.raises(DataError, match="nowhere"):
        other_runs(place / "ours-0", [place / "nowhere"])


def _curve(**changes: Any) -> dict[str, Any]:
    return {"kind": "curve", "data_fingerprint": "abc", "methods": {}, **changes}


def test_a_curve_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "curve.json", _curve())
    assert read_curve(tmp_path, "abc") == read_curve(tmp_path / "curve.json", "") == _curve()


@pytest.mark.parametrize(
    "found",
    [None, _curve(kind="evaluation"), [1], "{", _curve(data_fingerprint="def"), _curve(methods=[{"a": float("nan")}])],
)
def test_what_is_no_curve_of_these_photographs_is_refused(found: Any, tmp_path: Path) -> None:
    if found is not None:
        (tmp_path / "curve.json").write_text(found if isinstance(found, str) else json.dumps(found))
    with pytest.raises(DataError, match=r"curve\.json"):
        read_curve(tmp_path, "abc")


def test_the_command_puts_both_into_its_report(place: Path) -> None:
    fingerprint = load_run(place / "ours-0").card["data_fingerprint"]
    points = [{"fraction": f, "seed": 0, "auc_referable": 0.7 + f / 10, "accuracy": 0.5} for f in (0.5, 1.0)]
    methods = {"medtex": {"title": "ours", "points": points}}
    write_json(place / "curve" / "curve.json", _curve(data_fingerprint=fingerprint, methods=methods))
    words = ["evaluate", str(place / "ours-0"), "--compare", str(place / "no_local"), "--curve", str(place / "curve")]
    more = ["--against", "", "--evaluator-epochs", "0", "--quick", "--out", str(place / "report")]
    assert main([*words, *more]) == 0
    evaluation = json.loads((place / "report" / "evaluation.json").read_text("utf-8"))
    assert [row["name"] for row in evaluation["ablation"]["rows"]] == ["ours", "without L_local"]
    assert evaluation["curve"]["methods"] == methods
    page = (place / "report" / "report.html").read_text("utf-8")
    assert "without L_local" in page
    assert (place / "report" / "plots" / "ablation.png").is_file()
    assert (place / "report" / "plots" / "curve.png").is_file()


def test_a_mistake_is_reported_before_anything_is_measured(place: Path) -> None:
    words = ["evaluate", str(place / "ours-0"), "--compare", str(place / "nowhere"), "--evaluator-epochs", "0"]
    assert main([*words, "--out", str(place / "report")]) == DataError.exit_code
    assert not (place / "report").exists()
