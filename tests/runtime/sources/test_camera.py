from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import v4l2_kit
from v4l2_kit import GREY, MJPG, NV12, UYVY, YUYV, Driver

from medtex_edge.errors import SettingsError, SourceError
from medtex_edge.runtime import capture
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources import camera, camera_identity
from medtex_edge.runtime.sources.camera import CameraSettings


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Behind every device; nothing else of OpenCV's is replaced."""
    driver = Driver()

    def opened(path: str) -> v4l2_kit.Capture:
        if driver.gone:
            raise SourceError("no such device")
        return v4l2_kit.Capture(driver)

    monkeypatch.setattr(camera, "_v4l2", opened)
    return driver


def settings(**wanted: Any) -> CameraSettings:
    return CameraSettings(**wanted)


def read(source: camera.Camera, frame: Frame | None = None) -> Frame:
    frame = frame or Frame()
    assert source.read(frame)
    assert frame.pixels is not None
    return frame


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    ("name", "code", "shape"),
    [("yuyv", YUYV, (48, 64, 2)), ("nv12", NV12, (72, 64)), ("grey", GREY, (48, 64))],
)
def test_raw_frames_come_as_the_camera_gives_them_in_place_and_without_conversion(
    driver: Driver, name: str, code: float, shape: tuple[int, ...], flat: bool
) -> None:
    driver.modes, driver.flat = {code: {(64, 48): 30.0}}, flat
    source = camera.open_camera("0", settings(format=name))
    frame = read(source)
    buffer = frame.buffer
    assert (frame.layout, frame.pixels.shape if frame.pixels is not None else None) == (name, shape)
    read(source, frame)
    assert frame.buffer is buffer
    assert np.shares_memory(frame.pixels, frame.buffer)
    assert frame.pixels is not None
    assert frame.pixels.flags.c_contiguous
    assert int(frame.pixels[0].max()) == driver.frames


def test_compressed_frames_come_as_bgr(driver: Driver) -> None:
    frame = read(camera.open_camera("0", settings(format="mjpg", size=(192, 108))))
    assert (frame.layout, frame.pixels.shape if frame.pixels is not None else None) == ("bgr", (108, 192, 3))


def test_auto_takes_raw_frames_where_they_are_fast_enough_and_mjpg_where_they_are_not(driver: Driver) -> None:
    assert read(camera.open_camera("0")).layout == "yuyv"
    assert read(camera.open_camera("0", settings(size=(192, 108)))).layout == "bgr"
    assert read(camera.open_camera("0", settings(size=(192, 108), fps=5.0))).layout == "yuyv"
    driver.modes = {YUYV: {(64, 48): 5.0}}
    assert read(camera.open_camera("0", settings(fps=30.0))).layout == "yuyv"


def test_auto_leaves_to_opencv_what_it_alone_can_convert(driver: Driver) -> None:
    driver.modes = {UYVY: {(64, 48): 30.0}}
    frame = read(camera.open_camera("0"))
    assert (frame.layout, frame.pixels.shape if frame.pixels is not None else None) == ("bgr", (48, 64, 3))


def test_a_format_or_size_that_the_camera_has_not_is_refused_with_what_it_gives_instead(driver: Driver) -> None:
    with pytest.raises(SourceError, match=r"expected format nv12, the camera gives YUYV"):
        camera.open_camera("0", settings(format="nv12"))
    with pytest.raises(SourceError, match=r"expected 1920x1080 pixels, the camera gives 64x48"):
        camera.open_camera("0", settings(size=(1920, 1080)))


def test_a_rate_that_the_driver_does_not_keep_is_noted(driver: Driver) -> None:
    source = camera.open_camera("0", settings(format="yuyv", size=(192, 108), fps=30.0))
    assert source.notes == ["camera 0: asked for 30 frames/s, its driver says 5"]


def test_exposure_and_white_balance_are_locked_and_read_back(driver: Driver) -> None:
    camera.open_camera("0", settings(exposure=8000, white_balance=5200))
    assert driver.controls[cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    assert driver.controls[cv2.CAP_PROP_EXPOSURE] == 80  # units of 100 microseconds
    assert driver.controls[cv2.CAP_PROP_AUTO_WB] == 0
    assert driver.controls[cv2.CAP_PROP_WB_TEMPERATURE] == 5200
    camera.open_camera("0", settings(exposure="auto", white_balance="auto"))
    assert driver.controls[cv2.CAP_PROP_AUTO_EXPOSURE] == 3
    assert driver.controls[cv2.CAP_PROP_AUTO_WB] == 1


def test_what_the_driver_does_not_take_is_said(driver: Driver) -> None:
    driver.largest_exposure = 50
    with pytest.raises(SourceError, match="expected exposure of 8000 microseconds, the camera keeps 5000"):
        camera.open_camera("0", settings(exposure=8000))
    del driver.controls[cv2.CAP_PROP_AUTO_WB], driver.controls[cv2.CAP_PROP_WB_TEMPERATURE]
    with pytest.raises(SourceError, match="no control of its white balance"):
        camera.open_camera("0", settings(white_balance=4000))
    driver.stubborn, driver.controls[cv2.CAP_PROP_AUTO_EXPOSURE] = True, 3
    with pytest.raises(SourceError, match="keeps its automatic exposure on"):
        camera.open_camera("0", settings(exposure=1000))
    with pytest.raises(SourceError, match="no automatic white balance"):
        camera.open_camera("0", settings(white_balance="auto"))


def test_a_cut_frame_is_left_out_and_counted_and_a_source_of_nothing_else_is_lost(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.short = {4, 5}  # the first frame is read when the camera is opened
    for kind in ("yuyv", "mjpg"):
        driver.frames = 0
        source = camera.open_camera("0", settings(format=kind))
        numbers = [int(read(source).pixels.max()) for _ in range(4)]  # type: ignore[union-attr]
        assert numbers == [2, 3, 6, 7]
        assert source.notes == ["camera 0: 2 damaged frames were left out"]
    monkeypatch.setattr("medtex_edge.runtime.sources.video.BROKEN_S", 0.05)
    driver.short = set(range(10**6))
    assert not source.read(Frame())


def test_a_padded_frame_is_refused_and_not_shown_skewed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtex_edge.runtime.sources.video.BROKEN_S", 0.05)
    monkeypatch.setitem(v4l2_kit.BYTES, YUYV, 2.5)
    with pytest.raises(SourceError, match=r"expected yuyv frames of \(48, 64, 2\) bytes, it gives \(1, 7680\)"):
        camera.open_camera("0", settings(format="yuyv"))


def test_after_a_loss_format_size_colours_and_exposure_are_as_before(driver: Driver) -> None:
    source = camera.open_camera("0", settings(size=(64, 48), exposure=8000))
    driver.controls[cv2.CAP_PROP_GAIN] = 4
    before = read(source)
    driver.unplug()
    assert not source.read(Frame())
    with pytest.raises(SourceError, match="no such device"):
        source.reopen()
    driver.plug_in()
    driver.controls[cv2.CAP_PROP_GAIN] = 99  # its own default
    driver.modes = {MJPG: driver.modes[MJPG], YUYV: driver.modes[YUYV]}
    source.reopen()
    after = read(source)
    assert before.pixels is not None
    assert after.pixels is not None
    assert (after.layout, after.pixels.shape) == (before.layout, before.pixels.shape)
    assert driver.controls[cv2.CAP_PROP_EXPOSURE] == 80
    assert driver.controls[cv2.CAP_PROP_GAIN] == 4


def test_a_camera_that_comes_back_with_another_size_is_not_taken(driver: Driver) -> None:
    source = camera.open_camera("0")
    driver.modes = {YUYV: {(32, 24): 30.0}}
    with pytest.raises(SourceError, match="expected 64x48 pixels, the camera gives 32x24"):
        source.reopen()


def test_a_camera_plugged_out_while_it_is_read_is_read_on_when_it_is_back(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2_kit.Capture, "read", _paced(v4l2_kit.Capture.read))
    captured = capture.Capture(camera.open_camera("0"))
    thread = threading.Thread(target=captured.run)
    thread.start()
    try:
        assert captured.next() is not None
        driver.unplug()
        time.sleep(0.6)
        assert captured.lost_s() > 0
        driver.plug_in()
        end = time.monotonic() + 3
        while captured.lost_s() > 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert captured.recoveries == 1
    finally:
        captured.stop()
        thread.join(3)
    assert not thread.is_alive()


def _paced(read: Any) -> Any:
    def slow(self: v4l2_kit.Capture, buffer: npt.NDArray[np.uint8] | None = None) -> Any:
        time.sleep(0.01)
        return read(self, buffer)

    return slow


class Bus:
    """USB cameras, plugged in and out."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        monkeypatch.setattr(camera_identity, "SYSFS", root / "class")
        monkeypatch.setattr(camera_identity, "DEV", root / "dev")

    def have(self, **devices: dict[str, str]) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "dev").mkdir(parents=True)
        v4l2_kit.sysfs(self.root, devices)

    def path(self, name: str) -> str:
        return str(self.root / "dev" / name)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    return Bus(tmp_path / "usb", monkeypatch)


def usb(port: str, serial: str = "", product: str = "0825", index: str = "0") -> dict[str, str]:
    return {"port": port, "idVendor": "046d", "idProduct": product, "index": index} | (
        {"serial": serial} if serial else {}
    )


def test_a_camera_is_found_again_under_another_number_in_its_socket(bus: Bus) -> None:
    bus.have(video0=usb("1-2"), video1=usb("1-2", index="1"))
    found = camera_identity.Device(bus.path("video0"))
    assert found.find() == bus.path("video0")
    bus.have(video2=usb("1-2"), video3=usb("1-2", index="1"))
    assert found.find() == bus.path("video2")


def test_a_camera_is_found_again_in_another_socket_by_its_serial_number_or_if_it_is_the_only_one(bus: Bus) -> None:
    bus.have(video0=usb("1-2", "A1"), video2=usb("1-3", "B2"))
    numbered = camera_identity.Device(bus.path("video0"))
    numbered.find()
    bus.have(video0=usb("1-3", "B2"), video2=usb("1-4", "A1"))
    assert numbered.find() == bus.path("video2")
    bus.have(video0=usb("1-2"))
    only = camera_identity.Device(bus.path("video0"))
    only.find()
    bus.have(video1=usb("1-4"))
    assert only.find() == bus.path("video1")


def test_another_camera_is_never_taken_for_the_one_that_is_gone(bus: Bus) -> None:
    bus.have(video0=usb("1-2", product="0825"))
    found = camera_identity.Device(bus.path("video0"))
    found.find()
    bus.have(video0=usb("1-2", product="9999"))
    with pytest.raises(SourceError, match="another camera has its number"):
        found.find()
    bus.have()
    with pytest.raises(SourceError, match="no such device"):
        found.find()


def test_of_two_equal_cameras_the_other_is_not_taken_when_one_goes(bus: Bus) -> None:
    bus.have(video0=usb("1-2"), video2=usb("1-3"))
    found = camera_identity.Device(bus.path("video0"))
    found.find()
    bus.have(video0=usb("1-3"))
    with pytest.raises(SourceError, match="none in its socket"):
        found.find()
    bus.have(video0=usb("1-3"), video4=usb("1-2"))
    assert found.find() == bus.path("video4")


def test_a_path_by_name_is_left_to_the_system_that_keeps_it(bus: Bus) -> None:
    bus.have(video0=usb("1-2"))
    link = bus.root / "dev" / "v4l" / "by-id" / "usb-eye"
    assert camera_identity.Device(str(link)).find() == str(link)


def test_a_replugged_camera_is_opened_under_its_new_number_and_that_is_noted(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def v4l2(path: str) -> v4l2_kit.Capture:
        opened.append(path)
        return v4l2_kit.Capture(Driver())

    monkeypatch.setattr(camera, "_v4l2", v4l2)
    bus.have(video0=usb("1-2"))
    source = camera.open_camera(bus.path("video0"))
    bus.have(video2=usb("1-2"))
    source.reopen()
    assert opened == [bus.path("video0"), bus.path("video2")]
    assert source.notes == [f"{bus.path('video0')}: came back as {bus.path('video2')}"]


class Appsink:
    """What OpenCV's GStreamer backend hands over for NV12: (3 H / 2, W), and the caps' size as its properties."""

    def __init__(self, width: int = 64, height: int = 48) -> None:
        self.width, self.height = width, height

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def get(self, name: int) -> float:
        known = {cv2.CAP_PROP_FRAME_WIDTH: self.width, cv2.CAP_PROP_FRAME_HEIGHT: self.height}
        return float(known.get(name, 0))

    def read(self, buffer: npt.NDArray[np.uint8] | None = None) -> tuple[bool, npt.NDArray[np.uint8]]:
        return True, v4l2_kit.into(buffer, np.zeros((self.height * 3 // 2, self.width), np.uint8))


def test_a_csi_camera_is_asked_for_its_size_rate_and_exposure_and_read_as_nv12(monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines: list[str] = []

    def opened(pipeline: str) -> Appsink:
        pipelines.append(pipeline)
        return Appsink(1920, 1080)

    monkeypatch.setattr(camera, "_gstreamer", opened)
    frame = read(camera.open_camera("csi:1", settings(size=(1920, 1080), fps=60.0, exposure=8000)))
    assert (frame.layout, frame.pixels.shape if frame.pixels is not None else None) == ("nv12", (1620, 1920))
    assert "sensor-id=1" in pipelines[0]
    assert "width=1920,height=1080,framerate=60/1" in pipelines[0]
    assert 'exposuretimerange="8000000 8000000"' in pipelines[0]
    with pytest.raises(SourceError, match="expected 640x480 pixels, it gives 1920x1080"):
        camera.open_camera("csi", settings(size=(640, 480)))
    with pytest.raises(SettingsError, match="no colour temperature"):
        camera.open_camera("csi", settings(white_balance=5000))


def test_a_pipeline_of_ones_own_says_what_it_delivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_gstreamer", lambda pipeline: Appsink())
    frame = read(camera.open_camera("gst:mysrc ! video/x-raw, format=(string)NV12 ! appsink", settings(format="nv12")))
    assert (frame.layout, frame.pixels.shape if frame.pixels is not None else None) == ("nv12", (72, 64))
    with pytest.raises(SettingsError, match="expected video/x-raw,format=NV12 before the appsink"):
        camera.open_camera("gst:mysrc ! video/x-raw,format=I420 ! appsink", settings(format="nv12"))
    with pytest.raises(SourceError, match=r"expected bgr frames of \(height, width, 3\) bytes, it gives \(72, 64\)"):
        camera.open_camera("gst:mysrc ! appsink")
    with pytest.raises(SettingsError, match="ends in an appsink"):
        camera.open_camera("gst:mysrc ! fakesink")
    with pytest.raises(SettingsError, match="takes --camera-format alone"):
        camera.open_camera("gst:mysrc ! appsink", settings(fps=30.0))
