from __future__ import annotations

import datetime
import errno
import json
import os
from pathlib import Path
from typing import Any

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.errors import SettingsError, StorageError
from medtex_edge.runtime.reading import Reading, Verdict
from medtex_edge.runtime.sinks.photos import PhotoFolder
from medtex_edge.runtime.sinks.queue import FaultTolerantSink, SinkQueue
from medtex_edge.runtime.sinks.readings import ReadingsFile
from medtex_edge.runtime.sinks.video import VideoSink

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def reading(index: int = 0, *, seconds: float = 0.0, source: str = "eye.mp4") -> Reading:
    return Reading(
        source=source, frame=index, captured=START + datetime.timedelta(seconds=seconds), age_ms=3.0, size=(64, 48),
        verdict=Verdict.NOT_REFERABLE, label="healthy", probabilities=np.array([0.9, 0.05, 0.05], np.float32),
        referable_probability=0.05, saliency=np.full((16, 16), 0.25, np.float32), latency_ms={"infer": 1.0},
    )  # fmt: skip


def picture(index: int = 0, height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), index % 200, np.uint8)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def frames(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    return count


def test_readings_appear_whole_when_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = ReadingsFile(path, bundles.contract(), "ab" * 32)
    sink.write(reading(0))
    assert not path.exists()
    sink.write(reading(1))
    sink.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 1]
    assert rows[0]["probabilities"] == {"healthy": 0.9, "mild": 0.05, "severe": 0.05}
    assert rows[0]["saliency_area"] == 0.25
    assert rows[0]["captured"] == "2026-01-01T00:00:00.000Z"
    assert left_over(tmp_path) == ["r.jsonl"]


def test_abandoned_readings_leave_nothing(tmp_path: Path) -> None:
    sink = ReadingsFile(tmp_path / "r.jsonl", bundles.contract(), "")
    sink.write(reading())
    sink.abandon()
    assert left_over(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not on this system")
def test_a_full_disk_is_said_once_and_the_rest_is_counted() -> None:
    messages: list[StorageError] = []
    sink = FaultTolerantSink(ReadingsFile(Path("/dev/full"), bundles.contract(), ""), messages.append)
    for index in range(5):
        sink.write(reading(index), None)
    sink.close()
    assert len(messages) == 1
    assert (sink.written, sink.lost) == (0, 5)
    assert sink.error is not None
    assert "No space left" in sink.error.message


def test_readings_go_into_a_pipe_as_they_come(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = ReadingsFile(pipe, bundles.contract(), "")
    sink.write(reading(5))
    assert json.loads(os.read(reader, 65536))["frame"] == 5
    sink.close()
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_holds_every_frame_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path, 25.0, live=False)
    for index in range(20):
        sink.write(reading(index), picture(index))
    assert not path.exists()
    sink.close()
    assert frames(path) == 20
    assert left_over(tmp_path) == [path.name]


def test_a_video_of_a_live_source_plays_at_true_speed(tmp_path: Path) -> None:
    path = tmp_path / "live.avi"
    sink = VideoSink(path, 20.0, live=True)
    for index, seconds in enumerate((0.0, 0.1, 0.12, 0.5, 0.55)):
        sink.write(reading(index, seconds=seconds), picture(index))
    sink.write(reading(9, seconds=600.0), picture(9))  # after a gap of ten minutes
    sink.close()
    assert 12 <= frames(path) <= 33


def test_frames_of_odd_and_changing_sizes_go_into_one_video(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    sink = VideoSink(path, 25.0, live=False)
    for height, width in ((49, 65), (48, 64), (100, 30), (20, 200)):
        sink.write(reading(), picture(1, height, width))
    sink.close()
    assert frames(path) == 4


def test_a_video_without_a_frame_leaves_no_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "none.mp4", 25.0, live=False)
    sink.close()
    assert left_over(tmp_path) == []


def test_a_video_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[StorageError] = []
    sink = FaultTolerantSink(VideoSink(tmp_path / "full.mp4", 25.0, live=False), messages.append)
    sink.write(reading(), picture())
    real = os.statvfs(tmp_path)

    def full(path: Any) -> os.statvfs_result:
        values = list(real)
        values[4] = 0  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", full)
    for index in range(1, 40):
        sink.write(reading(index), picture(index))
    sink.close()
    assert sink.error is not None
    assert os.strerror(errno.ENOSPC) in sink.error.message
    assert (sink.written, sink.lost) == (16, 24)
    assert left_over(tmp_path) == []


def test_a_video_of_an_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\.mp4 or \.avi"):
        VideoSink(tmp_path / "out.gif", 25.0, live=False)


def test_a_place_that_cannot_be_written_to_is_an_error_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        VideoSink(tmp_path / "file" / "out.mp4", 25.0, live=False)
    with pytest.raises(StorageError):
        ReadingsFile(tmp_path / "file" / "r.jsonl", bundles.contract(), "")
    with pytest.raises(StorageError):
        PhotoFolder(tmp_path / "file", (tmp_path / "a.png",))


def test_photographs_keep_their_names_below_what_they_share(tmp_path: Path) -> None:
    sources = tuple(tmp_path / "in" / name for name in ("0/a.png", "1/a.png", "1/b.tif", "1/c.JPG"))
    sink = PhotoFolder(tmp_path / "out", sources)
    for source in sources:
        sink.write(reading(source=str(source)), picture())
    sink.close()
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["0/a.png", "1/a.png", "1/b.png", "1/c.jpg"]


def test_two_photographs_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    sources = (tmp_path / "a.png", tmp_path / "a.tif")
    sink = PhotoFolder(tmp_path / "out", sources)
    for source in sources:
        sink.write(reading(source=str(source)), picture())
    assert left_over(tmp_path / "out") == ["a.png", "a.tif.png"]


def test_overlays_never_replace_the_photographs_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(SettingsError, match="is one of the photographs"):
        PhotoFolder(tmp_path, (tmp_path / "a.png",))


def test_an_outlet_that_may_not_wait_loses_and_counts() -> None:
    outlet: SinkQueue[int] = SinkQueue(lambda item: None, capacity=2, wait=False)
    assert [outlet.put(item) for item in range(5)] == [True, True, False, False, False]
    assert outlet.lost == 3
    outlet.finish()
    outlet.run()


def test_an_outlet_whose_thread_died_never_blocks_the_one_who_puts() -> None:
    def fail(item: int) -> None:
        raise ZeroDivisionError

    outlet: SinkQueue[int] = SinkQueue(fail, capacity=1, wait=True)
    outlet.put(1)
    with pytest.raises(ZeroDivisionError):
        outlet.run()
    assert not outlet.put(2)
