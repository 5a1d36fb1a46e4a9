"""Synthetic eyes: they are deterministic, and their grade depends on the lesions alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_kit import read_csv, small_disk
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtex_edge.commands.synthetic import synthetic
from medtex_edge.errors import NoFieldOfView, SettingsError, StorageError
from medtex_edge.image.geometry import find_field_of_view
from medtex_edge.train.data.lesions import KINDS, LESIONS
from medtex_edge.train.synthetic.dataset import grade_of, plan_eyes, render, write_dataset, write_video
from medtex_edge.train.synthetic.lesions import Counts
from medtex_edge.train.synthetic.video import count_frames, film


@pytest.mark.parametrize("grade", range(5))
def test_the_grade_follows_from_the_lesions_drawn(grade: int) -> None:
    for seed in range(4):
        scene = render((seed, 1), size=160, grade=grade)
        assert scene.grade == grade == grade_of(scene.counts)
        assert set(scene.masks) == set(KINDS)
        assert scene.masks["MA"].any() == (scene.counts.microaneurysms > 0)
        assert scene.masks["HE"].any() == (scene.counts.haemorrhages > 0)
        assert scene.masks["EX"].any() == (scene.counts.hard_exudates > 0)
        assert scene.masks["SE"].any() == (scene.counts.soft_exudates > 0)
        assert np.array_equal(scene.masks["ALL"], np.logical_or.reduce([scene.masks[kind] for kind in LESIONS]))
        assert scene.masks["OD"].any()


@pytest.mark.parametrize(
    ("counts", "grade"),
    [
        (Counts(), 0),
        (Counts(microaneurysms=9), 1),
        (Counts(haemorrhages=1, quadrants=1), 2),
        (Counts(hard_exudates=3), 2),
        (Counts(haemorrhages=8, quadrants=2), 2),
        (Counts(haemorrhages=8, quadrants=3), 3),
        (Counts(soft_exudates=1), 3),
        (Counts(haemorrhages=18, quadrants=1), 4),
    ],
)
def test_the_written_rule_of_the_grade(counts: Counts, grade: int) -> None:
    assert grade_of(counts) == grade


def test_equal_seeds_give_equal_pixels_and_others_do_not() -> None:
    first, again, other = render(7, size=128), render(7, size=128), render(8, size=128)
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(first.masks[kind], again.masks[kind]) for kind in KINDS)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


def test_another_grade_is_the_same_eye_and_camera_with_other_lesions() -> None:
    for seed in range(3):
        healthy, sick = render(seed, size=192, grade=0), render(seed, size=192, grade=4)
        assert healthy.image.shape == sick.image.shape
        far = cv2.dilate(sick.masks["ALL"].astype(np.uint8), np.ones((17, 17))) == 0
        difference = np.abs(healthy.image.astype(int) - sick.image.astype(int))
        assert difference[far].max() <= 1
        assert difference[sick.masks["ALL"]].mean() > 8


def test_the_grade_depends_on_the_lesions_alone() -> None:
    rest, area, referable = [], [], []
    for seed in range(120):
        scene = render((seed, 5), size=96)
        near = cv2.dilate(scene.masks["ALL"].astype(np.uint8), np.ones((5, 5))) > 0
        pixels = scene.image[(scene.image.max(axis=2) > 25) & ~near].astype(float)
        rest.append([*pixels.mean(axis=0), *pixels.std(axis=0), *np.percentile(pixels, [10, 50, 90], axis=0).ravel()])
        area.append(scene.masks["ALL"].mean())
        referable.append(scene.grade >= 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    guesses = cross_val_predict(model, np.array(rest), np.array(referable), cv=5, method="predict_proba")[:, 1]
    # 120 photographs: two standard errors are about 0.1.
    assert 0.38 < roc_auc_score(referable, guesses) < 0.62
    assert roc_auc_score(referable, area) > 0.97


@given(st.integers(0, 2**40), st.integers(96, 200), st.booleans())
@settings(max_examples=12, deadline=None)
def test_every_eye_has_a_field_of_view(seed: int, size: int, left: bool) -> None:
    scene = render(seed, size=size, left=left)
    assert scene.image.dtype == np.uint8
    assert scene.image.shape[0] <= size
    box = find_field_of_view(scene.image)
    assert 0.8 * size < box.side <= 1.1 * size
    assert all(mask.shape == scene.image.shape[:2] for mask in scene.masks.values())


def test_left_and_right_eyes_have_the_disc_on_their_nose_side() -> None:
    for seed in range(4):
        for left in (False, True):
            scene = render(seed, size=128, left=left)
            column = np.nonzero(scene.masks["OD"])[1].mean()
            assert (column < scene.image.shape[1] / 2) == left


@given(st.integers(1, 400), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_plan_has_its_count_and_splits_by_patient(count: int, seed: int) -> None:
    eyes = plan_eyes(count, seed)
    assert len(eyes) == count == len({eye.name for eye in eyes})
    splits: dict[str, set[str]] = {}
    for eye in eyes:
        splits.setdefault(eye.patient, set()).add(eye.split)
    assert all(len(found) == 1 for found in splits.values())
    if count >= 10:
        grades = [eye.grade for eye in eyes]
        assert all(grades.count(grade) >= 2 for grade in range(5))
        assert {eye.grade for eye in eyes if eye.split == "train"} == set(range(5))
        assert any(eye.split == "val" for eye in eyes)


def test_names_are_independent_of_the_grade() -> None:
    grades = np.array([eye.grade for eye in plan_eyes(240, 0)])
    assert abs(np.corrcoef(np.arange(240), grades)[0, 1]) < 0.2


def test_a_dataset_appears_whole_with_masks_and_labels(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    folder = write_dataset(
        tmp_path / "new" / "dataset", count=12, size=96, seed=3, progress=lambda *now: calls.append(now)
    )
    rows = read_csv(folder / "labels.csv")
    assert list(rows[0]) == ["image", "grade", "split", "patient"]
    assert sorted(row["image"] for row in rows) == sorted(path.name for path in (folder / "images").iterdir())
    assert calls[-1] == (12, 12)
    for row in rows:
        names = {path.name for path in (folder / "masks").glob(Path(row["image"]).stem + "_*.png")}
        assert {name.split("_")[-1] for name in names} >= {"ALL.png", "OD.png"}
        assert (len(names) > 2) == (int(row["grade"]) > 0)
    assert [path.name for path in folder.parent.iterdir()] == ["dataset"]


def test_a_dataset_is_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(tmp_path / name, count=6, size=96, seed=5)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(SettingsError, match="not empty"):
        write_dataset(tmp_path, count=5, size=96)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_no_part_of_a_dataset(tmp_path: Path) -> None:
    with small_disk(20_000), pytest.raises(StorageError):
        write_dataset(tmp_path / "dataset", count=5, size=512)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["eye.mp4", "eye.avi"])
def test_a_video_has_its_frames_a_blink_and_a_blur(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, seed=1, frames=30, size=128, fps=25)
    assert count_frames(path) == 30
    assert [file.name for file in tmp_path.iterdir()] == [name]
    frames = list(film(1, 30, 128, 170))
    with pytest.raises(NoFieldOfView):
        find_field_of_view(frames[10])
    find_field_of_view(frames[0])
    sharpness = [cv2.Laplacian(frame[..., 1], cv2.CV_64F).std() for frame in frames]
    assert sharpness[20] < 0.8 * sharpness[0]


def test_no_part_of_a_video_remains_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(20_000), pytest.raises(StorageError):
        write_video(tmp_path / "eye.avi", seed=1, frames=20, size=256)
    assert list(tmp_path.iterdir()) == []


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    for wish in (
        lambda: render(0, size=20),
        lambda: render(0, grade=5),
        lambda: write_dataset(tmp_path / "c", count=0),
        lambda: write_video(tmp_path / "v.gif"),
        lambda: write_video(tmp_path / "v.mp4", frames=0),
    ):
        with pytest.raises(SettingsError, match="expected"):
            wish()
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_dataset_and_states_its_purpose(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "c"), "--count", "10", "--size", "96", "--seed", "1"]
    result = CliRunner().invoke(synthetic, [*arguments, "--video", str(tmp_path / "v.avi"), "--frames", "5"])
    assert result.exit_code == 0, result.output
    assert "never for a claim" in result.output
    assert (tmp_path / "c" / "labels.csv").is_file()
    assert count_frames(tmp_path / "v.avi") == 5
    wrong = CliRunner().invoke(synthetic, ["--out", str(tmp_path / "d"), "--video", "v.gif"])
    assert isinstance(wrong.exception, SettingsError)
    assert not (tmp_path / "d").exists()
