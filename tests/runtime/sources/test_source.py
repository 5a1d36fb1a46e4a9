from __future__ import annotations

import threading
import time
from contextlib import closing
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import streams
from video_kit import write_video

from medtex_edge.errors import DataError, ImageError, SettingsError, SourceError
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources import camera
from medtex_edge.runtime.sources.open import open_source, without_secrets
from medtex_edge.runtime.sources.photos import PhotoSource
from medtex_edge.runtime.sources.stream import StreamClock


def names(source: object) -> list[str]:
    assert isinstance(source, PhotoSource)
    return [path.name for path in source.paths]


def test_a_folder_gives_its_photographs_by_name_and_leaves_out_all_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/c.png", ".hidden.png", "overlays/a.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "labels.csv").write_text("x")
    assert names(open_source(str(tmp_path), leave_out=tmp_path / "overlays")) == ["a.JPG", "b.png", "c.png"]


def test_a_glob_gives_the_files_that_match(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b1.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    assert names(open_source(str(tmp_path / "a*.png"))) == ["a1.png", "a2.png"]
    with pytest.raises(SourceError, match="no file matches"):
        open_source(str(tmp_path / "c*.png"))


def test_a_file_whose_name_looks_like_a_glob_is_taken_as_the_file(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "eye[1].png"), np.zeros((8, 8, 3), np.uint8))
    assert names(open_source(str(tmp_path / "eye[1].png"))) == ["eye[1].png"]


def test_photographs_come_as_bgr_and_unreadable_ones_keep_their_place(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8, 3), (255, 0, 9), np.uint8))
    (tmp_path / "b.jpg").write_text("no photograph")
    source = open_source(str(tmp_path))
    frame = Frame()
    assert source.read(frame)
    assert frame.pixels is not None
    assert frame.pixels[0, 0].tolist() == [255, 0, 9]
    assert source.read(frame)
    assert frame.pixels is None
    assert "b.jpg" in frame.error
    assert frame.index == 1
    assert not source.read(frame)


def test_a_single_photograph_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_text("no photograph")
    with pytest.raises(ImageError, match="not an image"):
        open_source(str(tmp_path / "b.jpg")).read(Frame())


def test_what_is_not_there_or_of_no_known_kind_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no such file"):
        open_source(str(tmp_path / "nothing.png"))
    with pytest.raises(SourceError, match=r"expected a photograph .* got \.txt"):
        open_source(str(tmp_path / "notes.txt"))
    with pytest.raises(DataError, match="no photograph"):
        open_source(str(tmp_path / "empty"))
    with pytest.raises(SourceError, match="expected a URL of http"):
        open_source("file:///etc/passwd")


def test_a_folder_of_videos_names_one(tmp_path: Path) -> None:
    write_video(tmp_path / "eye.avi", 1)
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path))
    assert "eye.avi" in caught.value.hint


def test_every_frame_of_a_video_comes_in_order_and_in_place(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "eye.avi")))
    assert (source.live, source.stream, source.rate, source.count) == (False, True, 25.0, 12)
    frame = Frame()
    indices, buffers = [], set()
    while source.read(frame):
        indices.append(frame.index)
        buffers.add(id(frame.pixels))
    assert indices == list(range(12))
    assert len(buffers) == 1
    source.close()
    source.close()


def test_a_video_that_is_none_or_is_cut_off_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video" * 99)
    with pytest.raises(SourceError, match="no video in it"):
        open_source(str(tmp_path / "text.mp4"))
    whole = write_video(tmp_path / "whole.avi", 60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    source = open_source(str(tmp_path / "cut.avi"))
    frame = Frame()
    while source.read(frame):
        pass
    assert source.count is None or source.count < 60 or "cut or damaged" in source.notes[0]


def test_urls_lose_their_secrets_before_they_are_shown() -> None:
    assert without_secrets("rtsp://user:secret@10.0.0.9:554/live?token=1") == "rtsp://10.0.0.9:554/live?...."


def test_a_stream_that_does_not_answer_is_an_error_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match="no picture") as caught:
        open_source("http://user:secret@127.0.0.1:9/live")
    assert time.monotonic() - began < 6
    assert "secret" not in caught.value.message


def test_a_stream_that_stalls_is_noticed_and_can_be_opened_again() -> None:
    def picture(index: int) -> npt.NDArray[np.uint8]:
        return bundles.disc(120, width=160, seed=index)

    served = streams.Camera(picture)
    try:
        source = open_source(served.url)
        frame = Frame()
        assert source.live
        assert source.read(frame)
        assert abs(time.monotonic() - frame.captured) < 0.5
        served.stalled.set()
        began = time.monotonic()
        while source.read(frame):
            pass
        assert time.monotonic() - began < 4
        served.stalled.clear()
        source.reopen()
        assert source.read(frame)
        source.close()
    finally:
        served.off()


def test_a_stream_whose_pictures_change_in_size_is_read_on() -> None:
    served = streams.Camera(lambda index: bundles.disc(120, width=(160, 200)[index // 10 % 2], seed=index % 40))
    try:
        with closing(open_source(served.url)) as source:
            frame, shapes = Frame(), set()
            for _ in range(25):
                assert source.read(frame)
                assert frame.pixels is not None
                shapes.add(frame.pixels.shape)
            assert shapes == {(120, 160, 3), (120, 200, 3)}
    finally:
        served.off()


def test_an_address_that_serves_a_file_is_left_to_ffmpeg(tmp_path: Path) -> None:
    write_video(tmp_path / "eye.avi", 9)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with closing(open_source(f"{url}/eye.avi")) as source:
            assert (source.live, source.count) == (False, 9)
        with pytest.raises(SourceError, match="no picture"):
            open_source(f"{url}/nothing.avi")
        server.shutdown()


def test_user_and_password_of_an_address_are_sent_and_never_shown() -> None:
    served = streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40), secret="doctor:p@ss")
    try:
        with pytest.raises(SourceError) as caught:
            open_source(served.url)
        url = served.url.replace("http://", "http://doctor:p%40ss@")
        with closing(open_source(url)) as source:
            frame = Frame()
            assert source.read(frame)
            assert "ss" not in frame.source
        assert "401" in caught.value.message or "no picture" in caught.value.message
    finally:
        served.off()


def test_a_stream_clock_tells_how_late_a_frame_is_and_follows_a_clock_that_drifts() -> None:
    clock = StreamClock()
    for number in range(100):
        now = 50.0 + 0.04 * number
        assert clock.captured(0.04 * number, now) == pytest.approx(now, abs=1e-6)
    # Held back for 0.3 seconds.
    assert 54.3 - clock.captured(4.0, 54.3) == pytest.approx(0.3, abs=0.01)
    for number in range(100_000):  # an hour and more, 0.02 % slower
        now = 55.0 + 0.04 * number
        age = now - clock.captured(5.0 + 0.04 * number * (1 - 2e-4), now)
        assert -1e-6 <= age < 0.01
    # Counted anew from an earlier time: no lateness.
    assert clock.captured(3900.0, now + 0.04) == now + 0.04
    assert clock.captured(3900.04, now + 0.08) == pytest.approx(now + 0.08, abs=1e-3)


def test_a_camera_that_is_not_there_lists_what_was_tried() -> None:
    with pytest.raises(SourceError, match=r"camera 9999: no picture\. Tried /dev/video9999 by V4L2: no such device"):
        camera.open_camera("9999")
    with pytest.raises(SourceError, match="/dev/no-such-camera"):
        camera.open_camera("/dev/no-such-camera")
    with pytest.raises(SettingsError, match="csi"):
        camera.open_camera("webcam")


def test_a_csi_camera_without_gstreamer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "has_gstreamer", lambda: False)
    with pytest.raises(SourceError, match=r"built without GStreamer .*system-site-packages.*doctor"):
        camera.open_camera("csi:1")


def test_a_camera_that_opens_but_gives_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Silent:
        def isOpened(self) -> bool:
            return True

        def grab(self) -> bool:
            return False

        def set(self, name: int, value: float) -> bool:
            return False

        def get(self, name: int) -> float:
            return float(name == cv2.CAP_PROP_CONVERT_RGB)

        def release(self) -> None:
            pass

    monkeypatch.setattr("medtex_edge.runtime.sources.video.FIRST_FRAME_S", 0.2)
    monkeypatch.setattr(camera, "_v4l2", lambda path: Silent())
    with pytest.raises(SourceError, match=r"opens, but gives no frame within 0\.2 s"):
        camera.open_camera("0")


def test_a_cameras_own_clock_gives_the_age_where_it_can_be_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stamped:
        """A driver that stamps with the monotonic clock, 80 ms before the frame is handed over."""

        shift_s = 0.08

        def isOpened(self) -> bool:
            return True

        def grab(self) -> bool:
            return True

        def read(self, buffer: object = None) -> tuple[bool, npt.NDArray[np.uint8]]:
            return True, np.zeros((4, 4, 3), np.uint8)

        def set(self, name: int, value: float) -> bool:
            return False

        def get(self, name: int) -> float:
            stamp = (time.monotonic() - self.shift_s) * 1e3
            known = {cv2.CAP_PROP_POS_MSEC: stamp, cv2.CAP_PROP_CONVERT_RGB: 1.0}
            known |= {cv2.CAP_PROP_FRAME_WIDTH: 4.0, cv2.CAP_PROP_FRAME_HEIGHT: 4.0}
            return known.get(name, 0.0)

        def release(self) -> None:
            pass

    frame = Frame()
    monkeypatch.setattr(camera, "_v4l2", lambda path: Stamped())
    camera.open_camera("0").read(frame)
    assert 0.07 < time.monotonic() - frame.captured < 0.5
    monkeypatch.setattr(Stamped, "shift_s", 1e6)
    camera.open_camera("0").read(frame)
    assert time.monotonic() - frame.captured < 0.07
