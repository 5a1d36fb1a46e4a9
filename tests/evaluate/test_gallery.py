"""The gallery: all failures are shown, the random sample is drawn blindly, no picture misleads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from medtex_edge.evaluate.gallery import ROLES, choose, is_failure, title_of, write_gallery


def records(count: int = 20, **changes: dict[int, Any]) -> list[dict[str, Any]]:
    made = [{"key": f"p{i}", "label": "none", "read": "none", "pixel_auc": i / count} for i in range(count)]
    for key, values in changes.items():
        for index, value in values.items():
            made[index][key] = value
    return made


def of(role: str, chosen: list[tuple[int, str]]) -> list[int]:
    return [index for index, its in chosen if its == role]


def test_failures_come_first_and_the_gravest_of_them_before_the_others() -> None:
    chosen = choose(records(read={3: "severe", 7: "mild", 9: "ungradable: too dark"}, error={3: 1, 7: 2}))
    assert chosen[:3] == [(7, "failure"), (3, "failure"), (9, "failure")]
    assert [role for _, role in chosen] == sorted((role for _, role in chosen), key=ROLES.index)


def test_the_worst_and_the_best_are_those_by_pixel_auc_and_without_masks_by_fidelity() -> None:
    chosen = choose(records(), limits={"worst": 2, "best": 2})
    assert of("worst", chosen) == [0, 1]
    assert of("best", chosen) == [19, 18]
    unmarked = [{**record, "pixel_auc": None, "fidelity": 1 - record["pixel_auc"]} for record in records()]
    assert of("worst", choose(unmarked, limits={"worst": 2})) == [19, 18]
    assert not of("worst", choose([{"key": "a"}, {"key": "b"}]))


def test_no_case_is_both_the_best_and_the_worst() -> None:
    for count in range(1, 9):
        chosen = choose(records(count))
        assert not set(of("worst", chosen)) & set(of("best", chosen))


def test_the_random_sample_is_blind_to_what_was_measured_and_the_same_every_time() -> None:
    first = of("random", choose(records()))
    assert first == of("random", choose(records(read=dict.fromkeys(range(20), "severe"))))
    assert len(first) == 6
    assert first != of("random", choose(records(), seed=1))


@pytest.mark.parametrize(
    ("record", "failed"),
    [
        ({"label": "none", "read": "none"}, False),
        ({"label": "none", "read": "mild"}, True),
        ({"label": None, "read": "mild"}, False),
        ({"label": "none", "read": None}, False),
        ({"label": None, "read": "ungradable: black"}, True),
    ],
)
def test_a_failure_is_a_wrong_answer_or_none_and_never_a_missing_label(record: dict[str, Any], failed: bool) -> None:
    assert is_failure(record) is failed


def test_a_strip_shows_the_lesions_outline_and_each_map_and_is_drawn_once(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(60, 200, (4, 48, 48, 3), dtype=np.uint8)
    lesions = np.zeros((4, 48, 48), bool)
    lesions[:, 10:20, 10:20] = True
    maps = {"ours": draw.random((4, 12, 12)), "gradcam": draw.normal(size=(4, 7, 7)), "flat": np.zeros((4, 2, 2))}
    entries = write_gallery(tmp_path, images, maps, lesions, records(4, read={2: "mild"}), prefix="les-")
    assert entries[0] == {
        "key": "p2",
        "role": "failure",
        "title": "labelled none, read mild, pixel AUC 0.50",
        "file": "gallery/les-000.png",
    }
    files = {entry["file"] for entry in entries}
    assert {path.name for path in (tmp_path / "gallery").iterdir()} == {Path(file).name for file in files}
    assert len(files) == 4
    assert len(entries) > 4, "a case may be both the worst and in the random sample"
    picture = cv2.imread(str(tmp_path / entries[0]["file"]))
    assert picture is not None
    outlined = (picture[..., 1].astype(int) - picture[..., 2] > 150).sum()
    assert picture.shape[1] > 4 * picture.shape[0], "photograph, lesions and three maps are next to each other"
    plain = write_gallery(tmp_path, images, maps, None, records(4))[0]["file"]
    unmarked = cv2.imread(str(tmp_path / plain))
    assert unmarked is not None
    assert outlined > 50 + (unmarked[..., 1].astype(int) - unmarked[..., 2] > 150).sum()


def test_titles_hold_what_is_known_and_no_more() -> None:
    assert title_of({}) == "no label"
    assert title_of({"label": "mild", "read": "none", "teacher": "mild", "fidelity": float("nan")}) == (
        "labelled mild, read none, teacher mild"
    )


def test_maps_of_another_number_of_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as many"):
        write_gallery(tmp_path, np.zeros((2, 8, 8, 3), np.uint8), {"ours": np.zeros((3, 2, 2))}, None, records(2))
