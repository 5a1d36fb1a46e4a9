"""The evaluation's report: doubts first, sentences that follow the figures, nothing invented, nothing fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_kit import FULL, full, row, value, write_evaluation
from page_kit import HOSTILE, Page

from medtex_edge.errors import DataError
from medtex_edge.evaluate.report.contenders import contenders, rows_of
from medtex_edge.evaluate.report.report import read_evaluation, write_evaluation_report
from medtex_edge.evaluate.report.summary import summary
from medtex_edge.evaluate.report.warnings import not_measured, warnings
from medtex_edge.train.report.figures import figure
from medtex_edge.train.report.measures import MEASURES
from medtex_edge.train.report.report import NO_DEVICE, SYNTHETIC


def page_of(folder: Path, evaluation: dict[str, Any]) -> Page:
    return Page(write_evaluation_report(write_evaluation(folder, evaluation)).read_text(encoding="utf-8"))


def check_offline(page: Page) -> None:
    """Nothing runs, nothing is fetched; links lead to places on this page."""
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    anchors = {attributes.get("id") for _, attributes in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/png;base64,")
        if tag == "a":
            assert str(attributes["href"])[:1] == "#"
            assert str(attributes["href"])[1:] in anchors


def sentence(lines: list[str], *words: str) -> str:
    (found,) = (line for line in lines if all(word in line for word in words))
    return found


def test_a_whole_evaluation_is_shown_in_the_order_in_which_a_sceptic_reads(tmp_path: Path) -> None:
    page = page_of(tmp_path, full())
    check_offline(page)
    assert [attributes["id"] for tag, attributes in page.tags if tag == "h2"] == [
        "failures", "summary", "answers", "explanation", "lesions", "checks", "curve", "ablation", "cost", "gallery",
        "reading", "missing", "origin",
    ]  # fmt: skip
    assert page.text.index("Before you read on") < page.text.index("labelled severe, read mild")
    assert "21 of 80 photographs were given another class" in page.text
    assert "3 of 41 referable photographs were missed, and 9 of 39 others referred" in page.text
    assert page.text.index("labelled severe, read mild") < page.text.index("The worst maps")
    assert sum(tag == "img" for tag, _ in page.tags) == 5 + 4
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {
        "roc", "reliability", "confusion", "curve", "ablation",
    }  # fmt: skip
    assert SYNTHETIC not in page.text
    assert page.text.count(NO_DEVICE) == 2
    for words in ("0.915", "0.85 to 0.96", "microaneurysms", "3f9a3f9a", "3.11.2"):
        assert words in page.text


def test_baselines_are_given_at_the_best_layer_of_each_column_and_every_layer_can_be_opened(tmp_path: Path) -> None:
    (teacher,) = (c for c in contenders(rows_of(FULL["lesions"]), MEASURES) if c.title == "Grad-CAM of the teacher")
    assert (teacher.best["pixel_auc"][0].value, teacher.best["pixel_auc"][1]) == (0.68, "blocks.3")
    assert (teacher.best["pointing"][0].value, teacher.best["pointing"][1]) == (0.74, "blocks.6")
    (lower,) = (c for c in contenders(rows_of(FULL["explanation"]), MEASURES) if c.title == "Grad-CAM of the teacher")
    assert (lower.best["deletion"][0].value, lower.best["insertion"][0].value) == (0.33, 0.38)
    text = page_of(tmp_path, full()).text
    assert "every layer of the baselines (3 rows)" in text


def test_the_best_of_a_column_is_marked_and_a_constant_map_wins_no_prize_for_stability(tmp_path: Path) -> None:
    write_evaluation(tmp_path, full())
    source = write_evaluation_report(tmp_path).read_text(encoding="utf-8")
    assert '<td class="number best">0.780<small>0.73 to 0.83</small></td>' in source
    assert '<td class="number best">0.210<small>0.16 to 0.26</small></td>' in source, "of deletion the lowest"
    assert '<td class="number best">0.000' not in source
    assert '<tr class="ours"><th scope="row">ours</th>' in source


def test_where_ours_wins_the_summary_states_by_how_much_and_whether_the_intervals_decide_it() -> None:
    found = sentence(summary(FULL), "pixel AUC of our maps")
    assert "is 0.78 (0.73 to 0.83), higher is better" in found
    assert (
        "2 baselines at its best layer, Grad-CAM of the teacher, blocks.3: 0.68 (0.63 to 0.73); ours is better" in found
    )
    assert "one average map for all: 0.60 (0.55 to 0.65); ours is better (intervals apart)" in found
    changed = full()
    changed["lesions"]["rows"][0]["measures"]["pixel_auc"] = value(0.75)
    assert "ours is better (intervals overlap)" in sentence(summary(changed), "pixel AUC of our maps")
    assert not [line for line in warnings(FULL) if "lose to" in line]
    assert "in 93 % (88 % to 98 %)" in sentence(summary(FULL), "keeps the teacher's verdict", "opens 15 %")


def test_where_ours_loses_the_page_states_it_at_its_head_and_in_the_summary(tmp_path: Path) -> None:
    changed = full()
    changed["lesions"]["rows"][0] = row("ours", "ours", pixel_auc=0.59, pointing=0.91)
    changed["explanation"]["rows"][0] = row("ours", "ours", deletion=0.36, insertion=0.3, randomisation=0.9)
    changed["explanation"]["leakage"]["readable"] = True
    changed["answer"]["models"]["student"]["operating_point"]["sensitivity"] = 0.7
    doubts = warnings(changed)
    assert sentence(doubts, "pixel AUC", "a baseline").endswith("Grad-CAM of the teacher, blocks.3 (0.680).")
    assert sentence(doubts, "pixel AUC", "a control")
    assert sentence(doubts, "deletion", "a baseline")
    assert sentence(doubts, "deletion", "a control")
    assert sentence(doubts, "sensitivity of 90 %", "finds 70 %")
    assert sentence(doubts, "from the mask alone")
    assert not [line for line in doubts if "pointing" in line]
    lines = summary(changed)
    assert "ours loses" in sentence(lines, "pixel AUC of our maps")
    assert "hardly depend on what was learned" in sentence(lines, "shuffled, the rank")
    assert "or as a code" in sentence(lines, "From the mask alone")
    text = page_of(tmp_path, changed).text
    assert text.index("lose to a baseline") < text.index("Summary")


def test_a_student_that_obeys_the_mask_of_another_photograph_is_found_out() -> None:
    changed = full()
    assert "no sign that place or shape" in sentence(summary(changed), "From the mask alone")
    changed["explanation"]["leakage"]["obeys_mask"] = value(0.52)
    assert "does not obey" in sentence(summary(changed), "From the mask alone")
    assert not [line for line in warnings(changed) if "follows the mask" in line]
    changed["explanation"]["leakage"]["obeys_mask"] = value(0.8)
    assert "it follows the mask" in sentence(summary(changed), "From the mask alone")
    assert sentence(warnings(changed), "follows the mask")


def test_equal_figures_are_no_victory() -> None:
    changed = full()
    changed["lesions"]["rows"] = [row("ours", "ours", pixel_auc=0.7), row("ig", "rival", "teacher", pixel_auc=0.7)]
    assert "no difference" in sentence(summary(changed), "pixel AUC of our maps")


def test_the_less_data_curve_is_compared_in_pairs_and_losing_is_a_negative_number() -> None:
    found = sentence(summary(FULL), "MED-TEX minus supervised")
    assert "+0.138 at 10 % (+0.138 to +0.138)" in found
    changed = full()
    for point in changed["curve"]["methods"]["hinton"]["points"]:
        point["auc_referable"] += 0.1
    assert "-0.062 at 10 %" in sentence(summary(changed), "MED-TEX minus Hinton")


def test_an_ablation_names_the_variants_that_do_as_well() -> None:
    changed = full()
    changed["ablation"]["rows"][1]["auc_referable"] = [0.95, 0.95, 0.95]
    assert "not better than without random masks (0.950)" in sentence(
        summary(changed), "Compared with other trainings, AUC of referable"
    )


def test_a_drawn_dataset_is_reported_before_everything_else(tmp_path: Path) -> None:
    changed = full()
    changed["data"]["synthetic"] = True
    text = page_of(tmp_path, changed).text
    assert text.index(SYNTHETIC) < text.index(NO_DEVICE) < text.index("Before you read on")


@pytest.mark.parametrize(
    "evaluation",
    [
        {},
        {"kind": "evaluation", "answer": None, "explanation": {"rows": []}, "lesions": None, "cost": None},
        {"answer": {"models": {"student": {"accuracy": 0.5, "n": 0}}}, "gallery": [], "curve": {}},
        {"answer": [], "explanation": {"rows": [1, {"name": "x"}], "measures": 3, "leakage": "?"}, "gallery": [None]},
        {"lesions": {"rows": [{"name": "ours", "kind": "ours", "measures": {"pixel_auc": {"value": None}}}], "n": "?"}},
        {"answer": {"models": {"student": {"confusion": [[1], [2, 3]], "calibration": {"bins": [{"count": 3}]}}}}},
    ],
)
def test_what_was_not_measured_is_listed_and_nothing_is_made_up(evaluation: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    page = Page(write_evaluation_report(tmp_path).read_text(encoding="utf-8"))
    check_offline(page)
    assert "What was not measured" in page.text
    assert "the maps against lesions marked by hand" in page.text
    assert not [line for line in summary(evaluation) if "0." in line]
    assert "nan" not in page.text.lower()


def test_of_a_whole_evaluation_nothing_is_missing_but_what_is() -> None:
    assert not_measured(FULL) == []
    changed = full()
    del changed["curve"], changed["lesions"]
    assert len(not_measured(changed)) == 2


def test_the_curve_may_lie_in_the_folder_of_the_evaluation(tmp_path: Path) -> None:
    changed = full()
    (tmp_path / "curve.json").write_text(json.dumps(changed.pop("curve")))
    write_evaluation(tmp_path, changed)
    assert read_evaluation(tmp_path)["curve"]["seeds"] == [0, 1, 2]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    changed = full()
    changed["name"] = changed["command"] = HOSTILE
    changed["subject"]["classes"] = ["none", HOSTILE, "$x_"]
    changed["answer"]["groups"] = {HOSTILE: {HOSTILE: changed["answer"]["models"]["student"]}}
    changed["explanation"]["warnings"] = [HOSTILE]
    changed["explanation"]["measures"][HOSTILE] = {"title": HOSTILE, "better": HOSTILE, "meaning": HOSTILE}
    changed["explanation"]["rows"].append(row(HOSTILE, HOSTILE, HOSTILE, HOSTILE, deletion=0.1))
    changed["explanation"]["rows"][0]["measures"][HOSTILE] = value(0.5)
    changed["lesions"]["kinds"] = {HOSTILE: {HOSTILE: {"pixel_auc": value(0.5)}}}
    changed["ablation"]["rows"][0]["name"] = "$\\frac{<script>"
    changed["curve"]["methods"]["medtex"]["title"] = "$\\frac{"
    changed["gallery"][0]["title"] = HOSTILE
    page = page_of(tmp_path, changed)
    check_offline(page)
    assert "<script>alert(2)</script>" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


@pytest.mark.parametrize(
    "file", ["../secret.png", "/etc/passwd", "gallery/../secret.png", "gallery/none.png", "", None]
)
def test_a_gallery_cannot_show_files_from_elsewhere(file: str | None, tmp_path: Path) -> None:
    changed = full()
    write_evaluation(tmp_path / "report", changed)
    (tmp_path / "secret.png").write_bytes((tmp_path / "report/gallery/000.png").read_bytes())
    (tmp_path / "report" / "secret.png").write_bytes((tmp_path / "secret.png").read_bytes())
    changed["gallery"] = [{"key": "a", "role": "failure", "title": "b", "file": file}]
    (tmp_path / "report" / "evaluation.json").write_text(json.dumps(changed))
    page = Page(write_evaluation_report(tmp_path / "report").read_text(encoding="utf-8"))
    assert "a: b (its picture is missing)" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 5


def test_the_rows_by_kind_of_lesion_are_named_as_in_the_other_tables(tmp_path: Path) -> None:
    changed = full()
    changed["lesions"]["kinds"]["MA"]["gradcam teacher blocks.3"] = {"pixel_auc": value(0.65)}
    assert "Grad-CAM of the teacher, blocks.3" in page_of(tmp_path, changed).text


def test_figures_are_numbers_and_nothing_else() -> None:
    assert figure({"value": 0.5, "interval": [0.4, 0.6], "n": 3}) == (0.5, 0.4, 0.6, 3)
    assert figure({"value": 0.5, "interval": None}) == (0.5, None, None, None)
    for wrong in (None, True, "0.5", {"value": float("nan")}, {"value": True}, [0.5]):
        assert figure(wrong) is None


def test_a_folder_without_an_evaluation_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_evaluation_report(tmp_path)
    assert "evaluate" in caught.value.hint
    (tmp_path / "evaluation.json").write_text("[")
    with pytest.raises(DataError, match="no JSON"):
        write_evaluation_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
