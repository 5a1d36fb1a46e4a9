"""The pictures of a run."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.contract import OperatingPoint
from medtex_edge.errors import StorageError
from medtex_edge.train.report.plots import blend, plot_confusion, plot_history, plot_roc, plot_sheet

POINT = OperatingPoint(0.3, 0.9, 0.9, (0.8, 0.95), 1.0, (0.9, 1.0), 20, 20)
ROWS = [
    {"phase": "masks", "epoch": 0, "step": 9, "out": 2.0, "mid": 400.0, "val_auc": 0.7, "area": ""},
    {"phase": "masks", "epoch": 1, "step": 18, "out": 1.0, "mid": 300.0, "val_auc": 0.8, "area": ""},
    {"phase": "joint", "epoch": 0, "step": 27, "out": 0.9, "mid": 200.0, "val_auc": float("nan"), "area": 0.3},
]


def picture(path: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    assert image.std() > 1, "an empty picture"
    return np.asarray(image, np.uint8)


def test_a_history_with_text_gaps_and_phases_is_drawn(tmp_path: Path) -> None:
    plot_history(ROWS, tmp_path / "history.png")
    picture(tmp_path / "history.png")


def test_a_history_without_a_row_is_noted_instead_of_failing(tmp_path: Path) -> None:
    plot_history([], tmp_path / "history.png")
    picture(tmp_path / "history.png")


@pytest.mark.parametrize("truth", [[True, False, True, False], [True] * 4, [False] * 4])
@pytest.mark.parametrize("point", [POINT, None])
def test_an_roc_is_drawn_even_where_one_class_is_missing(
    truth: list[bool], point: OperatingPoint | None, tmp_path: Path
) -> None:
    plot_roc([0.9, 0.1, 0.4, 0.4], truth, point, tmp_path / "roc.png")
    picture(tmp_path / "roc.png")


def test_class_names_that_look_like_mathematics_or_markup_are_names(tmp_path: Path) -> None:
    names = ["$\\frac{$", "<b>", "a_b^c", "無", "x" * 80]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font may have no such letter; that is no error
        plot_confusion(np.eye(5, dtype=int) * 7, names, tmp_path / "confusion.png")
    picture(tmp_path / "confusion.png")


def test_a_sheet_shows_each_photograph_and_its_lesions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
    lesions = np.zeros((5, 64, 64), bool)
    lesions[1, 10:20, 10:20] = True
    saliency = rng.random((5, 16, 16))
    plot_sheet(images, saliency, [f"photograph ${i}" for i in range(5)], tmp_path / "sheet.png", lesions)
    picture(tmp_path / "sheet.png")


def test_a_saliency_looks_the_same_whatever_else_the_map_holds() -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    faint = np.full((8, 8), 0.05)
    with_a_peak = faint.copy()
    with_a_peak[0, 0] = 1.0
    assert (blend(grey, faint)[16:, 16:] == blend(grey, with_a_peak)[16:, 16:]).all()


def test_more_saliency_is_never_less_visible() -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    moved = [np.abs(blend(grey, np.full((8, 8), m)).astype(int) - 100).sum(axis=2).mean() for m in (0, 0.1, 0.2, 1)]
    assert moved == sorted(moved)
    assert moved[1] > 3, "a tenth of saliency cannot be seen"


def test_a_map_of_zeros_leaves_the_grey_photograph_and_bad_values_are_no_light() -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    assert (blend(grey, np.zeros((8, 8))) == 100).all()
    assert (blend(grey, np.full((8, 8), np.nan)) == 100).all()


def test_the_same_run_draws_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_history(ROWS, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_place_that_cannot_be_written_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("a file is in the way")
    with pytest.raises(StorageError):
        plot_history(ROWS, tmp_path / "plots" / "history.png")
    assert [path.name for path in tmp_path.iterdir()] == ["plots"]
