"""report.html: whole, offline, honest about what is missing, and inert whatever the class names are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_kit import HOSTILE, Page

from medtex_edge.errors import DataError
from medtex_edge.train.report.report import (
    NO_DEVICE,
    SYNTHETIC,
    control_warnings,
    run_summary,
    student_warnings,
    write_report,
)
from medtex_edge.train.synthetic.dataset import write_dataset

ANSWER = {
    "auc_referable": 0.95,
    "auc_referable_interval": [0.9, 0.99],
    "accuracy": 0.65,
    "accuracy_interval": [0.5, 0.75],
    "qwk": None,
    "n": 80,
    "confusion": [[1, 0], [0, 1]],
}
METRICS: dict[str, Any] = {
    "teacher": ANSWER | {"auc_referable": 0.92, "auc_referable_interval": [0.85, 0.97]},
    "student": ANSWER,
    "agreement": 0.8,
    "saliency": {
        "mean_area": 0.11,
        "pixel_auc": 0.67,
        "n": 34.0,
        "controls": {"mean_map": {"pixel_auc": 0.6, "n": 34.0}},
    },
}
POINT = {
    "threshold": 0.3,
    "target_sensitivity": 0.9,
    "sensitivity": 0.9,
    "sensitivity_interval": [0.8, 0.95],
    "specificity": 0.8,
    "specificity_interval": [0.7, 0.9],
    "positives": 41,
    "negatives": 39,
}


def make_run(folder: Path, metrics: dict[str, Any], model: dict[str, Any] | None = None) -> Path:
    (folder / "plots").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if model is not None:
        (folder / "model.json").write_text(json.dumps(model))
    for name in ("history", "roc", "confusion", "sheet", "something_new"):
        cv2.imwrite(str(folder / "plots" / f"{name}.png"), np.zeros((4, 4, 3), np.uint8))
    (folder / "config.toml").write_text('[train]\nstudent = "x"\n')
    (folder / "history.csv").write_text("phase,epoch,out\nmasks,0,1.0\nmasks,1,0.9\njoint,0,0.8\n")
    return folder


def report(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_figures_are_given_with_their_intervals_and_every_picture_is_inside(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", METRICS, {"name": "mine", "operating_point": POINT}))
    for words in ("mine", "0.950 (0.90 to 0.99)", "0.920 (0.85 to 0.97)", "0.900 (0.80 to 0.95)", "one average map"):
        assert words in page.text
    assert page.text.count(NO_DEVICE) == 2
    assert sum(tag == "img" for tag, _ in page.tags) == 5


def test_the_page_needs_no_network_and_runs_nothing(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", METRICS))
    assert not {"script", "link", "iframe", "object", "base", "form", "a"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/png;base64,")
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    metrics = METRICS | {HOSTILE: ANSWER, "saliency": {"mean_area": 0.1, "controls": {HOSTILE: {"pixel_auc": 0.5}}}}
    model = {"name": HOSTILE, "classes": ["none", HOSTILE], HOSTILE: HOSTILE, "operating_point": {"positives": HOSTILE}}
    run = make_run(tmp_path / "run", metrics, model)
    (run / "config.toml").write_text(HOSTILE)
    (run / "history.csv").write_text(f"phase,epoch\n{HOSTILE.replace(chr(34), '')},0\n")
    (run / "plots" / "sheet.png").rename(run / "plots" / "a<script>.png")
    page = report(run)
    assert {tag for tag, _ in page.tags if tag == "script"} == set()
    assert sum(tag == "img" for tag, _ in page.tags) == 5
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(2)</script>" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


@pytest.mark.parametrize("metrics", [{}, {"teacher": None, "saliency": None, "student": {}}, {"student": {"n": 0}}])
def test_what_was_not_measured_is_left_out_and_not_invented(metrics: dict[str, Any], tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", metrics))
    assert "ranks" not in page.text
    assert "nan" not in page.text.lower().replace("nano", "")


def test_values_of_the_wrong_kind_do_not_break_the_page(tmp_path: Path) -> None:
    odd = {"auc_referable": "high", "auc_referable_interval": [1, None], "accuracy": True, "n": "many"}
    report(make_run(tmp_path / "run", {"student": odd, "saliency": {"mean_area": "x", "controls": {"a": 3}}}))


def test_a_run_on_drawn_photographs_is_reported_as_such_first(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", count=1, size=96)
    for name, data in (("of the folder", dataset), ("of the table", dataset / "labels.csv"), ("real", tmp_path)):
        run = make_run(tmp_path / name, METRICS)
        (run / "config.toml").write_text(f"[data]\npath = {json.dumps(str(data))}\n")
        assert (SYNTHETIC in report(run).text) is (name != "real")


def test_the_summary_warns_of_small_samples() -> None:
    (sentence,) = (line for line in run_summary(METRICS, {}) if "validation photographs" in line)
    assert "80 validation photographs, where one photograph is 1.25 points" in sentence
    assert "intervals before the figures" in sentence


def test_a_control_that_beats_the_maps_is_a_warning_with_both_figures() -> None:
    saliency = METRICS["saliency"] | {"controls": {"mean_map": {"pixel_auc": 0.7}, "uniform": {"pixel_auc": 0.5}}}
    (warning,) = control_warnings(saliency)
    assert "our maps (0.670) lose" in warning
    assert "one average map for all (0.700)" in warning
    assert control_warnings(METRICS["saliency"]) == []
    assert control_warnings({"pixel_auc": "high", "controls": {"a": 3, "b": {"pixel_auc": None}}}) == []


def test_a_student_below_its_wanted_sensitivity_or_badly_calibrated_is_a_warning() -> None:
    student = ANSWER | {"operating_point": POINT | {"sensitivity": 0.7}, "calibration": {"ece": 0.2}, "n": 500}
    low, calibration = student_warnings(student)
    assert "sensitivity of 90 %" in low
    assert "finds 70 %" in low
    assert "off by 0.20" in calibration
    assert student_warnings(ANSWER | {"operating_point": POINT, "calibration": {"ece": 0.05}, "n": 500}) == []
    assert ["80 photographs" in line for line in student_warnings(ANSWER)] == [True]


def test_a_folder_that_is_no_run_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_report(tmp_path)
    assert caught.value.hint
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
