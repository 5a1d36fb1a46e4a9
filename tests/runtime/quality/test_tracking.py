from __future__ import annotations

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pipeline_kit import FixedBackend

from medtex_edge.image.geometry import FieldOfView, prepare
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.quality.gate import Inspector
from medtex_edge.runtime.quality.motion import FASTEST, MotionMeter, SteadyBox
from medtex_edge.runtime.reading import Reading, Reason
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.smoothing import Smoother

CONTRACT = bundles.contract()
SECONDS = 1 / 25


def retina(shift: int = 0, noise_seed: int = 0, seed: int = 1) -> npt.NDArray[np.uint8]:
    """A disc that stands still, whose retina has moved by `shift` pixels of 480."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (480, 680)).astype(np.float32), (0, 0), 5)
    texture = 120 + 25 * texture[:, 100 - shift : 580 - shift] / texture.std()
    noisy = texture + np.random.default_rng(noise_seed).normal(0, 2, texture.shape)
    lit = np.hypot(*(np.mgrid[:480, :480] - 239.5)) < 225
    grey = np.where(lit, np.clip(noisy, 40, 255), 3).astype(np.uint8)
    return np.ascontiguousarray(np.stack([grey // 3, grey // 2, grey], axis=2))


def speed_of(shift: int, seconds: float = SECONDS) -> float | None:
    inspector, meter = Inspector(), MotionMeter(56)
    for moved in (0, shift):
        frame = retina(moved, noise_seed=abs(moved))
        prepared, box = prepare(frame, 224, 224, layout="bgr")
        inspector.metrics(frame, box, prepared)
        motion = meter.measure(inspector.structure, box, seconds)
    return motion.speed


@pytest.mark.parametrize("shift", [-60, -24, -9, 9, 24, 60])
def test_the_speed_of_the_retina_is_measured_in_disc_diameters_a_second(shift: int) -> None:
    speed = speed_of(shift)
    assert speed == pytest.approx(abs(shift) / 450 / SECONDS, abs=0.006 / SECONDS)


def test_noise_alone_is_no_movement_and_after_a_long_pause_nothing_is_said() -> None:
    still = speed_of(0)
    assert still is not None
    assert still < FASTEST / 5
    assert speed_of(24, seconds=1.0) is None


def test_a_trembling_box_is_held_and_one_that_moves_is_followed() -> None:
    steady = SteadyBox()
    first = FieldOfView(100, 50, 800, 0.95)
    assert steady.follow(first) == first
    for left, top, side in ((102, 49, 799), (98, 52, 801), (101, 51, 803)):
        assert steady.follow(FieldOfView(left, top, side, 0.9)) == FieldOfView(100, 50, 800, 0.9)
    moved = FieldOfView(110, 50, 800, 0.95)
    assert steady.follow(moved) == moved
    assert steady.follow(FieldOfView(110, 50, 820, 0.95)) == FieldOfView(110, 50, 820, 0.95)


def readings(
    frames: list[npt.NDArray[np.uint8]], *, smooth_s: float = 0.0, backend: FixedBackend | None = None
) -> list[Reading]:
    scorer = Scorer(backend or FixedBackend(), CONTRACT, stream=True, rate=25.0, smooth_s=smooth_s)
    return [scorer.score(Frame(pixels=each, index=k)) for k, each in enumerate(frames)]


def test_a_frame_in_fast_movement_is_refused_and_the_next_one_that_stands_is_scored() -> None:
    frames = [retina(shift, noise_seed=k) for k, shift in enumerate((0, 0, 60, 60, 61))]
    results = readings(frames)
    assert [each.reason for each in results] == [None, None, Reason.MOVING, None, None]
    assert "disc diameters per second" in results[2].detail


class Turning(FixedBackend):
    """Answers 0.9 for the first class in its first calls, then for the last."""

    def infer(self, image):  # type: ignore[no-untyped-def]
        outputs = super().infer(image)
        sure = [0.9, 0.05, 0.05] if self.calls <= 3 else [0.05, 0.05, 0.9]
        outputs.probabilities[:] = sure
        outputs.saliency[:] = 0.0 if self.calls <= 3 else 1.0
        return outputs


def test_answers_are_averaged_over_the_frames_of_one_scene() -> None:
    frames = [retina(noise_seed=k) for k in range(8)]
    alone = readings(frames, backend=Turning())
    smooth = readings(frames, smooth_s=0.2, backend=Turning())
    assert [each.smoothed_frames for each in alone] == [1.0] * 8
    assert [round(each.frame_referable_probability or 0, 2) for each in smooth] == [0.05] * 3 + [0.9] * 5
    referable = [each.referable_probability or 0.0 for each in smooth]
    assert referable[2] == pytest.approx(0.05)
    assert referable[2:] == sorted(set(referable[2:]))
    # Weights are those of e to the minus age: three frames before the turn, k after it.
    weights = np.exp(-np.arange(8)[::-1] * SECONDS / 0.2)
    assert referable[-1] == pytest.approx(float((weights[:3].sum() * 0.05 + weights[3:].sum() * 0.9) / weights.sum()))
    assert smooth[-1].saliency is not None
    assert smooth[-1].saliency.mean() == pytest.approx(weights[3:].sum() / weights.sum(), abs=1e-5)
    assert smooth[-1].smoothed_frames == pytest.approx(weights.sum())


def test_a_new_scene_is_not_averaged_with_the_one_before() -> None:
    frames = [retina(noise_seed=k, seed=1 + k // 3) for k in range(6)]
    results = [each for each in readings(frames, smooth_s=1.0, backend=Turning()) if each.reason is None]
    assert results[0].referable_probability == pytest.approx(0.05)
    assert results[-1].referable_probability == pytest.approx(0.9)


def test_after_a_refused_frame_the_average_begins_anew_but_a_duplicate_says_nothing() -> None:
    black = np.zeros((480, 480, 3), np.uint8)
    frames = [retina(noise_seed=k) for k in range(3)]
    after_black = readings([*frames, black, retina(noise_seed=9)], smooth_s=1.0)
    assert after_black[3].reason is Reason.BLACK
    assert after_black[4].smoothed_frames == 1.0
    after_duplicate = readings([*frames, frames[-1].copy(), retina(noise_seed=9)], smooth_s=1.0)
    assert after_duplicate[3].reason is Reason.DUPLICATE
    assert (after_duplicate[4].smoothed_frames or 0) > 3


def test_an_average_stays_a_probability_and_is_the_callers_own() -> None:
    smoother = Smoother(0.5)
    rng = np.random.default_rng(0)
    results = []
    for _ in range(200):
        p = rng.dirichlet(np.ones(5)).astype(np.float32)
        results.append(smoother.add(p, rng.random((4, 4), np.float32), 0.03))
    for probabilities, saliency, _ in results:
        assert probabilities.sum() == pytest.approx(1, abs=1e-4)
        assert 0 <= saliency.min() <= saliency.max() <= 1
    assert not np.shares_memory(results[0][1], results[1][1])


def test_photographs_are_never_averaged() -> None:
    scorer = Scorer(Turning(), CONTRACT, smooth_s=1.0)
    results = [scorer.score(Frame(pixels=retina(noise_seed=k), index=k)) for k in range(5)]
    assert [each.smoothed_frames for each in results] == [1.0] * 5
    assert results[-1].referable_probability == pytest.approx(0.9)
