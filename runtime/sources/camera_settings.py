"""What a camera is asked for, through OpenCV's properties, and whether its driver took it.

A driver may take a wish without a word and do something else, so everything is read back. V4L2 counts exposure in units
of 100 microseconds, and names the modes 0 automatic, 1 manual, 3 automatic exposure at a fixed aperture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from medtex_edge.errors import SourceError

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
