"""`medtex_edge.stream`: every frame of a file, the newest of a live source, and a source that is always closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import bundles
import cv2
import numpy as np
import pytest

import medtex_edge
from medtex_edge.errors import BackendError, BundleError, DataError, SettingsError, SourceError
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources import camera


class Live:
    """A live source of `count` frames, one every `pause_s`; then it stops for good."""

    name, live, stream, rate, count = "camera 0", True, True, 50.0, None

    def __init__(self, frames: int = 10**9, pause_s: float = 0.005, *, same: bool = False, black: bool = False) -> None:
        self.notes: list[str] = []
        self.closed = 0
        self.index = 0
        self._frames, self._pause_s, self._same, self._black = frames, pause_s, same, black
        self._pictures = [bundles.disc(160, lesion=True, seed=seed) for seed in range(4)]

    def read(self, frame: Frame) -> bool:
        time.sleep(self._pause_s)
        if self.index >= self._frames:
            return False
        picture = np.zeros_like(self._pictures[0]) if self._black else self._pictures[self.index % 4 * (not self._same)]
        frame.pixels = picture.copy()
        frame.source, frame.index, frame.captured, frame.error = self.name, self.index, time.monotonic(), ""
        self.index += 1
        return True

    def skip(self) -> bool:
        return self.read(Frame())

    def reopen(self) -> None:
        raise SourceError(f"{self.name}: unplugged")

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundles.bundle(tmp_path / "tiny.medtex")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), bundles.disc(160, lesion=index == 1, seed=index))
    return folder


def loop(bundle: Any, body: Callable[[medtex_edge.Reading], Any], **how: Any) -> None:
    for reading in medtex_edge.stream(bundle, camera=0, **how):
        body(reading)


def plug(monkeypatch: pytest.MonkeyPatch, source: Live) -> Live:
    monkeypatch.setattr(camera, "open_camera", lambda spec, settings: source)
    return source


def test_every_photograph_of_a_folder_is_read_in_order(bundle: Path, photographs: Path) -> None:
    readings = list(medtex_edge.stream(bundle, source=photographs))
    assert [Path(reading.source).name for reading in readings] == ["0.png", "1.png", "2.png"]
    assert [reading.verdict.value for reading in readings] == ["not referable", "referable", "not referable"]
    with medtex_edge.open_bundle(bundle) as opened:
        alone = opened.read(photographs / "1.png")
    assert readings[1].probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert np.abs(readings[1].overlay().astype(int) - alone.overlay()).max() <= 1


def test_a_file_that_is_no_photograph_is_an_ungradable_reading_among_others(bundle: Path, photographs: Path) -> None:
    (photographs / "1.png").write_bytes(b"no photograph")
    readings = list(medtex_edge.stream(bundle, source=str(photographs)))
    assert [reading.reason for reading in readings] == [None, medtex_edge.Reason.UNREADABLE, None]
    with pytest.raises(DataError, match="decoded picture"):
        readings[1].overlay()


def test_every_frame_of_a_video_is_read_and_keeps_its_own_pixels(bundle: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 160))
    for index in range(12):
        writer.write(bundles.disc(160, seed=index, lesion=index % 2 > 0))
    writer.release()
    readings = list(medtex_edge.stream(bundle, source=tmp_path / "v.avi"))
    assert [reading.frame for reading in readings] == list(range(12))
    assert len({reading.overlay().tobytes() for reading in readings}) == 12
    assert len(list(medtex_edge.stream(bundle, source=tmp_path / "v.avi", max_frames=5))) == 5


def test_of_a_camera_the_newest_frame_is_read_and_none_that_is_old(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = plug(monkeypatch, Live())
    indices, ages = [], []
    for reading in medtex_edge.stream(bundle, camera=0, max_frames=5):
        indices.append(reading.frame)
        ages.append(reading.age_ms)
        time.sleep(0.15)  # the body of the loop is slow
    assert indices == sorted(set(indices))
    assert indices[-1] - indices[0] > 20, "frames in between are dropped"
    assert max(ages) < 140
    assert source.closed >= 1


@pytest.mark.parametrize(("how", "reason"), [({"same": True}, "duplicate"), ({"black": True}, "black")])
def test_what_is_no_new_picture_is_not_scored_as_one(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, how: Any, reason: str
) -> None:
    plug(monkeypatch, Live(**how))
    readings = list(medtex_edge.stream(bundle, camera=0, max_frames=4))
    assert {reading.reason for reading in readings[1:]} == {reason}
    assert all(reading.probabilities is None for reading in readings[1:])


def test_the_source_is_closed_however_the_loop_ends(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with medtex_edge.open_bundle(bundle) as opened:
        source = plug(monkeypatch, Live())
        readings: Any = medtex_edge.stream(opened, camera=0)
        assert (source.index, source.closed) == (0, 0), "nothing is opened before the first step"
        next(readings)
        readings.close()
        assert source.closed == 1
        source = plug(monkeypatch, Live())
        with pytest.raises(ZeroDivisionError):
            loop(opened, lambda reading: 1 / 0)
        assert source.closed == 1
        source = plug(monkeypatch, Live())
        for _ in medtex_edge.stream(opened, camera=0):
            break
        assert source.closed == 1
        assert opened.read(np.zeros((9, 9, 3), np.uint8)), "an open bundle stays open"


def test_a_camera_that_does_not_come_back_ends_the_loop_with_its_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = plug(monkeypatch, Live(frames=4))
    readings: list[medtex_edge.Reading] = []
    with pytest.raises(SourceError, match="unplugged"):
        loop(bundle, readings.append, retries=1)
    assert readings
    assert source.closed == 1


def test_a_bundle_that_is_closed_meanwhile_ends_the_loop(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = plug(monkeypatch, Live())
    opened = medtex_edge.open_bundle(bundle)
    with pytest.raises(BackendError, match="closed"):
        loop(opened, lambda reading: opened.close())
    assert source.closed == 1


def test_two_streams_of_one_bundle_run_at_once(bundle: Path, photographs: Path) -> None:
    with medtex_edge.open_bundle(bundle) as opened:
        first, second = (medtex_edge.stream(opened, source=photographs) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {}, {"camera": 0, "source": "x"}, {"source": "x", "size": (640, 480)}, {"source": 3}, {"source": b"x"},
        {"camera": 0, "max_frames": 0}, {"camera": 0, "max_frames": "all"}, {"camera": 0, "size": "640x480"},
        {"camera": 0, "size": (640, -1)}, {"camera": 0, "fps": 0}, {"camera": 0, "fps": "30"},
        {"camera": 0, "smooth": -1}, {"camera": 0, "smooth": float("nan")}, {"camera": 0, "smooth": "off"},
        {"camera": 0, "retries": -1}, {"camera": 0, "retries": 1.5},
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_meant_are_refused_at_the_call(bundle: Path, how: Any) -> None:
    with pytest.raises(SettingsError, match=r"expected .* got") as refused:
        medtex_edge.stream(bundle, **how)
    assert refused.value.hint


def test_what_is_not_there_is_an_error_of_its_kind(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        next(iter(medtex_edge.stream(bundle, source=tmp_path / "nothing.mp4")))
    with pytest.raises(BundleError):
        next(iter(medtex_edge.stream(tmp_path / "nothing.medtex", source=tmp_path)))
