from __future__ import annotations

from pathlib import Path

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from frame_kit import as_layout

from medtex_edge.errors import NoFieldOfView
from medtex_edge.image.geometry import find_field_of_view, prepare
from medtex_edge.image.photo import read_photo
from medtex_edge.runtime.quality.gate import Inspector, QualityMetrics, assess
from medtex_edge.runtime.reading import Reason

REAL = Path(__file__).parents[3] / "../shared/data"


def reason(frame: npt.NDArray[np.uint8], size: int = 224) -> str:
    """What is said of one BGR frame; '' where it can be graded."""
    refusal = Inspector().precheck_frame(frame)
    if refusal is not None:
        return refusal.value
    try:
        prepared, box = prepare(frame, size, size, layout="bgr")
    except NoFieldOfView:
        return Reason.NO_FIELD_OF_VIEW.value
    refusal = assess(Inspector().metrics(frame, box, prepared))
    return refusal[0].value if refusal else ""


def spoiled(frame: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.uint8]]:
    """The ways to spoil a frame that the thresholds were made for."""
    sigma = 6 * frame.shape[1] / 482
    return {
        "blurred": cv2.GaussianBlur(frame, (0, 0), sigma),
        "too dark": (frame // 5).astype(np.uint8),
        "too bright": np.clip(frame.astype(np.int32) * 3 + 40, 0, 255).astype(np.uint8),
        "black": np.zeros_like(frame),
    }


def test_a_textured_disc_can_be_graded_at_every_size_of_the_model() -> None:
    for size in (64, 128, 224, 384):
        assert reason(bundles.disc(480, width=640), size) == ""


@pytest.mark.parametrize("what", ["blurred", "too dark", "too bright", "black"])
def test_a_spoiled_disc_is_refused_for_what_spoils_it(what: str) -> None:
    assert reason(spoiled(bundles.disc(480, width=640))[what]) == what


def test_a_frame_without_a_disc_has_no_field_of_view() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    assert reason(noise) == Reason.NO_FIELD_OF_VIEW.value
    assert reason(np.full((240, 320, 3), 128, np.uint8)) == Reason.NO_FIELD_OF_VIEW.value


def test_a_disc_of_which_little_is_visible_has_no_field_of_view() -> None:
    metrics = QualityMetrics(brightness=120, grey=100, clipped=0, sharpness=0.4, coverage=0.3)
    refusal = assess(metrics)
    assert refusal is not None
    assert refusal[0] is Reason.NO_FIELD_OF_VIEW


def test_exposure_and_contrast_do_not_move_the_sharpness() -> None:
    frame = bundles.disc(480)
    box = find_field_of_view(frame)
    inspector = Inspector()

    def sharpness(image: npt.NDArray[np.uint8]) -> float:
        prepared, _ = prepare(image, 224, 224, layout="bgr")
        return inspector.metrics(image, box, prepared).sharpness

    half = (frame * 0.6).astype(np.uint8)
    assert sharpness(half) == pytest.approx(sharpness(frame), rel=0.1)


def test_only_a_frame_that_is_equal_to_the_one_before_is_a_duplicate() -> None:
    inspector = Inspector()
    first, second = bundles.disc(96, seed=1), bundles.disc(96, seed=2)
    assert [inspector.precheck_frame(f) for f in (first, first.copy(), second, first, first)] == [
        None, Reason.DUPLICATE, None, None, Reason.DUPLICATE,
    ]  # fmt: skip
    assert inspector.precheck_frame(bundles.disc(64, seed=1)) is None  # another size
    changed = bundles.disc(64, seed=1)
    changed[8, 3, 0] ^= 1
    assert inspector.precheck_frame(changed) is None


def test_the_previous_frame_is_remembered_although_its_buffer_is_used_again() -> None:
    inspector = Inspector()
    buffer = bundles.disc(96, seed=1)
    inspector.precheck_frame(buffer)
    buffer[:] = bundles.disc(96, seed=2)
    assert inspector.precheck_frame(buffer) is None


@pytest.mark.parametrize("layout", ["grey", "yuyv", "nv12"])
def test_a_dark_frame_is_black_in_every_layout_of_a_camera_and_a_lit_one_is_not(layout: str) -> None:
    lit = as_layout(bundles.disc(96, width=128), layout)
    dark = as_layout(np.zeros((96, 128, 3), np.uint8), layout)
    assert Inspector().precheck_frame(dark, layout) is Reason.BLACK
    assert Inspector().precheck_frame(lit, layout) is None


@pytest.mark.parametrize("layout", ["grey", "yuyv", "nv12"])
def test_the_facts_of_a_frame_hardly_depend_on_how_its_camera_delivers_it(layout: str) -> None:
    frame = bundles.disc(480, width=640)
    results = []
    for each, name in ((frame, "bgr"), (as_layout(frame, layout), layout)):
        prepared, box = prepare(each, 224, 224, layout=name)
        results.append(Inspector().metrics(each, box, prepared, name))
    assert results[1].grey == pytest.approx(results[0].grey, abs=2)
    assert results[1].sharpness == pytest.approx(results[0].sharpness, rel=0.1)
    assert results[1].coverage == pytest.approx(results[0].coverage, abs=0.01)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photographs (../shared/data) are not on this machine")
def test_real_photographs_can_be_graded_and_spoiled_ones_cannot() -> None:
    paths = sorted(REAL.glob("idrid/images/*.jpg"))[::8] + sorted(REAL.glob("idrid_lesions/images/*"))[::2]
    assert len(paths) > 40
    refused = []
    for path in paths:
        frame = np.ascontiguousarray(read_photo(path)[..., ::-1])
        if reason(frame):
            refused.append(path.name)
        for what, image in spoiled(frame).items():
            assert reason(image) != "", f"{path}, {what}"
    # Rather a soft photograph taken again than a blurred one read as healthy: 2 of all 432 are too soft.
    assert len(refused) <= len(paths) // 50, refused
