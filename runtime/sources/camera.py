"""Cameras: V4L2 by number or path, the CSI connector of Jetson boards, and any GStreamer pipeline."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from medtex_edge.errors import SettingsError, SourceError
from medtex_edge.runtime.doctor.machine import video_devices
from medtex_edge.runtime.sources import pixel_layout
from medtex_edge.runtime.sources.camera_identity import Device
from medtex_edge.runtime.sources.video import OPEN_TIMEOUT_MS, READ_TIMEOUT_MS, Attempt, Live

# OpenCV waits ten seconds for a driver that gives no frame; it reads this once, before the first camera.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")

_TRIES = 5  # frames; the first ones of a camera are often cut
_CLOCK_SLACK_S = 10.0
_BUSY_HINT = "close other programs that use it, or name another by --camera; `medtex-edge doctor` lists them"
_CSI_HINT = "check the ribbon cable, and on the board: sudo systemctl restart nvargus-daemon"
_CAPS = {"nv12": "NV12", "yuyv": "YUY2", "grey": "GRAY8"}  # names of GStreamer's
_CSI_SIZE, _CSI_FPS = (1280, 720), 30
_CSI = (
    "nvarguscamerasrc sensor-id={sensor}{exposure} ! "
    "video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1 ! "
    # NV12 is what the sensor's processor makes; only the copy into plain memory is left to do.
    "nvvidconv ! video/x-raw,format=NV12 ! "
    # One buffer and no clock: the newest frame, as soon as it is there.
    "appsink max-buffers=1 drop=true sync=false"
)
AUTO = "auto"
FORMATS = (AUTO, "yuyv", "nv12", "mjpg", "grey")
_CODES = {name: cv2.VideoWriter.fourcc(*name.upper()) for name in FORMATS if name != AUTO}
_MANUAL, _AUTO_MODES = 1, (3, 0)
_EXPOSURE_UNIT_US = 100.0
_ENOUGH = 15.0  # frames per second that a raw format must reach where nothing was asked for; else compressed is better
# Kept over a replugging, after which a camera has its own defaults again. Switches stand before what they lock.
_KEPT = (
    cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_AUTO_WB, cv2.CAP_PROP_WB_TEMPERATURE,
    cv2.CAP_PROP_AUTOFOCUS, cv2.CAP_PROP_FOCUS, cv2.CAP_PROP_GAIN, cv2.CAP_PROP_BRIGHTNESS, cv2.CAP_PROP_CONTRAST,
    cv2.CAP_PROP_SATURATION, cv2.CAP_PROP_HUE, cv2.CAP_PROP_GAMMA, cv2.CAP_PROP_SHARPNESS, cv2.CAP_PROP_BACKLIGHT,
)  # fmt: skip
_MISSING = -1.0  # what OpenCV reads where a camera has no such control


@dataclass(frozen=True)
class CameraSettings:
    """What the user asked for; None: nothing, the camera's own."""

    format: str = AUTO  # one of FORMATS
    size: tuple[int, int] | None = None  # width, height in pixels
    fps: float | None = None  # frames per second
    exposure: int | str | None = None  # microseconds, or AUTO
    white_balance: int | str | None = None  # kelvin, or AUTO


@dataclass(frozen=True)
class Mode:
    """What the camera delivers now."""

    format: str  # one of FORMATS; AUTO: one that OpenCV converts by itself
    layout: str  # of medtex_edge.image.geometry.LAYOUTS
    size: tuple[int, int]  # width, height in pixels
    fps: float  # frames per second; 0 where the driver does not say


class Camera(Live):
    """A local camera. Where the driver stamps its frames, their age counts from the exposure."""

    def __init__(self, name: str, attempts: list[Attempt], hint: str) -> None:
        self._stamped = False
        super().__init__(name, attempts, hint)

    def _check_frame(self, capture: cv2.VideoCapture) -> None:
        """Raises `SourceError` where what is handed over has not the shape that was agreed on."""
        shape: tuple[int, ...] | None = None
        for _ in range(_TRIES):
            got, pixels = capture.read()
            if got and self._fit(pixels) is not None:
                return
            shape = pixels.shape if got and pixels is not None else shape
        wanted = self._shape or "(height, width, 3)"
        raise SourceError(f"expected {self.layout} frames of {wanted} bytes, it gives {shape or 'none that is whole'}")

    def _check_clock(self, capture: cv2.VideoCapture) -> None:
        # V4L2 stamps with the clock of time.monotonic(); what is far from it is some other clock.
        stamp = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        self._stamped = stamp > 0 and abs(time.monotonic() - stamp) < _CLOCK_SLACK_S

    def _captured(self, began: float, now: float) -> float:
        if self._stamped and self._capture is not None:
            return min(now, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3)
        return now


class V4L2Camera(Camera):
    """A camera of the kernel's, found again wherever it comes back, with the settings that it had."""

    def __init__(self, path: str, name: str, wanted: CameraSettings) -> None:
        self._device = Device(path)
        self._wanted = wanted
        self._kept: dict[int, float] | None = None  # controls, from the first opening on
        self._path = path
        super().__init__(name, [(f"{path} by V4L2", self._open)], _hint())

    def _open(self) -> cv2.VideoCapture:
        path = self._device.find()
        capture = _v4l2(path)
        if path != self._path:
            self._notes.append(f"{self.name}: came back as {path}")
            self._path = path
        return capture

    def _ready(self, capture: cv2.VideoCapture) -> str:
        mode = set_mode(capture, self._wanted)
        if self._kept is not None:
            restore(capture, self._kept)
        lock(capture, self._wanted)
        failure = self._prove(capture)
        if not failure:
            self._settle(capture, mode)
        return failure

    def _settle(self, capture: cv2.VideoCapture, mode: Mode) -> None:
        self.layout = mode.layout
        # A JPEG says its own size.
        self._shape = None if mode.format == "mjpg" else pixel_layout.shape(mode.layout, *mode.size)
        if self._kept is not None:
            return
        self._check_frame(capture)
        self._kept = remember(capture)
        if self._wanted.fps and mode.fps and abs(mode.fps - self._wanted.fps) > 0.1 * self._wanted.fps:
            self._notes.append(f"{self.name}: asked for {self._wanted.fps:g} frames/s, its driver says {mode.fps:g}")
        # What was chosen once is asked for from now on: the same geometry and colours after a loss.
        self._wanted = replace(self._wanted, format=mode.format, size=mode.size)


class Pipeline(Camera):
    """A GStreamer pipeline that ends in an appsink."""

    def __init__(
        self, name: str, attempt: Attempt, hint: str, *, delivers: str, size: tuple[int, int] | None = None
    ) -> None:
        self._delivers, self._size = delivers, size
        super().__init__(name, [attempt], hint)

    def _ready(self, capture: cv2.VideoCapture) -> str:
        failure = self._prove(capture)
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if failure:
            return failure
        if self._size is not None and size != self._size:
            return "expected {}x{} pixels, it gives {}x{}".format(*self._size, *size)
        self.layout = self._delivers
        self._shape = None if self._delivers == "bgr" else pixel_layout.shape(self._delivers, *size)
        self._check_frame(capture)
        return ""


def open_camera(spec: str, wanted: CameraSettings | None = None) -> Camera:
    """Open `N`, `/dev/videoN` (or any path of a device), `csi` or `csi:N`, or `gst:PIPELINE`.

    Raises `SettingsError` for another word or a setting that this kind of camera has not, `SourceError` with the list
    of what was tried or with what the driver did not take.
    """
    wanted = wanted or CameraSettings()
    csi = re.fullmatch(r"csi(?::(\d+))?", spec)
    if csi:
        return _csi(spec, csi[1] or "0", wanted)
    if spec.startswith("gst:"):
        return _custom(spec.removeprefix("gst:").strip(), wanted)
    if re.fullmatch(r"\d{1,4}", spec):
        number = int(spec)
        if platform.system() != "Linux":
            return Camera(f"camera {number}", [(f"index {number}", lambda: cv2.VideoCapture(number))], _hint())
        return V4L2Camera(f"/dev/video{number}", f"camera {number}", wanted)
    if spec.startswith("/"):
        return V4L2Camera(spec, spec, wanted)
    raise SettingsError(f"camera: expected a number, a path such as /dev/video0, csi or gst:PIPELINE, got {spec!r}")


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer, which the wheels of PyPI are not."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def _csi(spec: str, sensor: str, wanted: CameraSettings) -> Camera:
    if wanted.format not in (AUTO, "nv12"):
        raise SettingsError(f"--camera-format: a CSI camera is read as nv12, got {wanted.format}", hint="leave it out")
    if wanted.white_balance not in (None, AUTO):
        raise SettingsError("--white-balance: the CSI driver takes no colour temperature", hint="leave it out")
    width, height = wanted.size or _CSI_SIZE
    exposure = ""
    if isinstance(wanted.exposure, int):
        nanoseconds = wanted.exposure * 1000
        exposure = f' exposuretimerange="{nanoseconds} {nanoseconds}"'
    pipeline = _CSI.format(
        sensor=sensor, exposure=exposure, width=width, height=height, fps=round(wanted.fps or _CSI_FPS)
    )
    attempt = ("GStreamer nvarguscamerasrc", lambda: _gstreamer(pipeline))
    return Pipeline(spec, attempt, _CSI_HINT, delivers="nv12", size=(width, height))


def _custom(pipeline: str, wanted: CameraSettings) -> Camera:
    if wanted != CameraSettings(format=wanted.format):
        raise SettingsError(
            "--camera gst: takes --camera-format alone", hint="write size, rate and exposure into the pipeline"
        )
    if "appsink" not in pipeline:
        raise SettingsError(
            "--camera gst: expected a pipeline that ends in an appsink",
            hint="such as 'gst:v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink max-buffers=1 drop=true'",
        )
    delivers = "bgr" if wanted.format in (AUTO, "mjpg") else wanted.format
    # OpenCV does not tell NV12 from I420: the same bytes in another order, and other colours.
    if delivers != "bgr" and f"format={_CAPS[delivers]}" not in re.sub(r"\s|\(string\)", "", pipeline):
        raise SettingsError(
            f"--camera-format {delivers}: expected video/x-raw,format={_CAPS[delivers]} before the appsink",
            hint="write it into the pipeline, or convert to format=BGR there and leave --camera-format out",
        )
    hint = "try it with gst-launch-1.0, fakesink in place of appsink"
    attempt = (f"GStreamer {pipeline}", lambda: _gstreamer(pipeline))
    return Pipeline("GStreamer pipeline", attempt, hint, delivers=delivers)


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
            "this OpenCV was built without GStreamer (cure: pip uninstall opencv-python, and use the system's own in "
            "an environment made with --system-site-packages; `medtex-edge doctor` has the exact line)"
        )
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, timeouts)
    # Older releases refuse to open with a property that they do not know.
    return capture if capture.isOpened() else cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)


def _hint() -> str:
    devices = video_devices()
    if not devices:
        return "there is no /dev/video* on this machine: plug a camera in, or give --source a file or a stream"
    return f"there are {', '.join(f'{path} ({name})' for path, name in devices)}: {_BUSY_HINT}"


def set_mode(capture: cv2.VideoCapture, wanted: CameraSettings) -> Mode:
    """Choose format, size and rate, before the first frame. Raises `SourceError`: what the camera does instead.

    `auto` takes the first raw format that reaches the rate: those need no decoder and lose nothing. A USB 2 camera
    reaches it with large frames in MJPEG alone.
    """
    if wanted.format != AUTO:
        mode = _try_mode(capture, wanted.format, wanted)
        if mode is None:
            raise SourceError(f"expected format {wanted.format}, the camera gives {_fourcc(capture)}")
        return _checked(mode, wanted)
    best: tuple[float, str] | None = None
    for name in _CODES:
        mode = _try_mode(capture, name, wanted)
        if mode is None or not _fits(mode, wanted):
            continue
        if mode.fps >= 0.9 * (wanted.fps or _ENOUGH):
            return mode
        if best is None or mode.fps > best[0]:
            best = mode.fps, name
    # Last, whatever OpenCV can convert to BGR by itself.
    mode = _try_mode(capture, best[1], wanted) if best is not None else None
    return _checked(mode or _read_mode(capture, wanted, AUTO), wanted)


def lock(capture: cv2.VideoCapture, wanted: CameraSettings) -> None:
    """Set exposure and white balance. Raises `SourceError` where the driver did not take them."""
    if wanted.exposure == AUTO:
        if not any(_set(capture, cv2.CAP_PROP_AUTO_EXPOSURE, mode) for mode in _AUTO_MODES):
            raise SourceError("the camera has no automatic exposure")
    elif wanted.exposure is not None:
        _set(capture, cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL)
        _lock(capture, cv2.CAP_PROP_EXPOSURE, float(wanted.exposure), _EXPOSURE_UNIT_US, "exposure", "microseconds")
        _check_manual(capture, cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL, "exposure")
    if wanted.white_balance == AUTO:
        if not _set(capture, cv2.CAP_PROP_AUTO_WB, 1):
            raise SourceError("the camera has no automatic white balance")
    elif wanted.white_balance is not None:
        _set(capture, cv2.CAP_PROP_AUTO_WB, 0)
        _lock(capture, cv2.CAP_PROP_WB_TEMPERATURE, float(wanted.white_balance), 1.0, "white balance", "kelvin")
        _check_manual(capture, cv2.CAP_PROP_AUTO_WB, 0, "white balance")


def remember(capture: cv2.VideoCapture) -> dict[int, float]:
    """The controls that make colours and brightness, as they are now."""
    return {name: value for name in _KEPT if (value := float(capture.get(name))) != _MISSING}


def restore(capture: cv2.VideoCapture, kept: dict[int, float]) -> None:
    """Set what `remember` gave; what an automatic controls cannot be set and is left to it."""
    for name, value in kept.items():
        if float(capture.get(name)) != value:
            capture.set(name, value)


def _try_mode(capture: cv2.VideoCapture, name: str, wanted: CameraSettings) -> Mode | None:
    capture.set(cv2.CAP_PROP_FOURCC, _CODES[name])
    if int(capture.get(cv2.CAP_PROP_FOURCC)) != _CODES[name]:
        return None
    return _read_mode(capture, wanted, name)


def _read_mode(capture: cv2.VideoCapture, wanted: CameraSettings, name: str) -> Mode:
    if wanted.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
    if wanted.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, wanted.fps)
    convert = name in ("mjpg", AUTO)
    capture.set(cv2.CAP_PROP_CONVERT_RGB, float(convert))
    if bool(capture.get(cv2.CAP_PROP_CONVERT_RGB)) != convert:
        raise SourceError(f"OpenCV cannot deliver the camera's {_fourcc(capture)} {'converted' if convert else 'raw'}")
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return Mode(name, "bgr" if convert else name, size, fps if 0 < fps < 1000 else 0.0)


def _fits(mode: Mode, wanted: CameraSettings) -> bool:
    return wanted.size is None or mode.size == wanted.size


def _checked(mode: Mode, wanted: CameraSettings) -> Mode:
    if wanted.size is not None and not _fits(mode, wanted):
        raise SourceError(
            f"expected {wanted.size[0]}x{wanted.size[1]} pixels, the camera gives {mode.size[0]}x{mode.size[1]}"
        )
    return mode


def _lock(capture: cv2.VideoCapture, name: int, value: float, unit: float, what: str, units: str) -> None:
    """Set a control and read it back; `unit` is one step of it in `units`."""
    capture.set(name, round(value / unit))
    kept = float(capture.get(name))
    if kept == _MISSING:
        raise SourceError(f"the camera has no control of its {what}")
    if abs(kept * unit - value) > unit:
        raise SourceError(f"expected {what} of {value:.0f} {units}, the camera keeps {kept * unit:.0f}")


def _check_manual(capture: cv2.VideoCapture, name: int, manual: float, what: str) -> None:
    if float(capture.get(name)) not in (manual, _MISSING):
        raise SourceError(f"the camera keeps its automatic {what} on")


def _set(capture: cv2.VideoCapture, name: int, value: float) -> bool:
    capture.set(name, value)
    return float(capture.get(name)) == value


def _fourcc(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return "".join(c if c.isprintable() else "?" for c in map(chr, code.to_bytes(4, "little", signed=code < 0))).strip()
