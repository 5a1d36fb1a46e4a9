"""Cameras: V4L2 by number or path, and the CSI connector of Jetson boards through GStreamer."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

import cv2

from medtex_edge.errors import SettingsError, SourceError
from medtex_edge.runtime.machine import video_devices
from medtex_edge.runtime.video import Attempt, Live

_CLOCK_SLACK_S = 10.0
_BUSY_HINT = "close other programs that use it, or name another by --camera; `medtex-edge doctor` lists them"
_CSI = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    # One buffer and no clock: the newest frame, as soon as it is there.
    "appsink max-buffers=1 drop=true sync=false"
)


class Camera(Live):
    """A local camera. Where the driver stamps its frames, their age counts from the exposure."""

    def __init__(self, name: str, attempts: list[Attempt], hint: str) -> None:
        self._stamped = False
        super().__init__(name, attempts, hint)

    def _look_at_clock(self, capture: cv2.VideoCapture) -> None:
        # V4L2 stamps with the clock of time.monotonic(); what is far from it is some other clock.
        stamp = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        self._stamped = stamp > 0 and abs(time.monotonic() - stamp) < _CLOCK_SLACK_S

    def _captured(self, began: float, now: float) -> float:
        if self._stamped and self._capture is not None:
            return min(now, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3)
        return now


def open_camera(spec: str) -> Camera:
    """Open `N`, `/dev/videoN` (or any path of a device), `csi` or `csi:N`.

    Raises `SettingsError` for another word, `SourceError` with the list of what was tried.
    """
    csi = re.fullmatch(r"csi(?::(\d+))?", spec)
    if csi:
        pipeline = _CSI.format(sensor=csi[1] or "0")
        hint = "check the ribbon cable, and on the board: sudo systemctl restart nvargus-daemon"
        return Camera(spec, [("GStreamer nvarguscamerasrc", lambda: _gstreamer(pipeline))], hint)
    if re.fullmatch(r"\d{1,4}", spec):
        number = int(spec)
        return Camera(f"camera {number}", _by_number(number), _hint())
    if spec.startswith("/"):
        return Camera(spec, [(f"{spec} by V4L2", lambda: _v4l2(spec))], _hint())
    raise SettingsError(f"camera: expected a number, a path such as /dev/video0, or csi, got {spec!r}")


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer, which the wheels of PyPI are not."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def _by_number(number: int) -> list[Attempt]:
    path = f"/dev/video{number}"
    if platform.system() == "Linux":
        return [(f"{path} by V4L2", lambda: _v4l2(path))]
    return [(f"index {number}", lambda: cv2.VideoCapture(number, cv2.CAP_ANY))]


def _v4l2(path: str) -> cv2.VideoCapture:
    # Looked at first, since OpenCV answers to each of these with the same silent failure.
    if not Path(path).exists():
        raise SourceError("no such device")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError("permission denied (cure: sudo usermod -aG video $USER, then log in again)")
    return cv2.VideoCapture(path, cv2.CAP_V4L2)


def _gstreamer(pipeline: str) -> cv2.VideoCapture:
    if not has_gstreamer():
        raise SourceError(
            "this OpenCV was built without GStreamer (cure: pip uninstall opencv-python, and use JetPack's own: "
            "sudo apt install python3-opencv, in an environment made with --system-site-packages)"
        )
    return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)


def _hint() -> str:
    devices = video_devices()
    if not devices:
        return "there is no /dev/video* on this machine: plug a camera in, or give --source a file or a stream"
    return f"there are {', '.join(f'{path} ({name})' for path, name in devices)}: {_BUSY_HINT}"
