"""A camera behind OpenCV's VideoCapture, as its V4L2 backend behaves: formats, sizes, controls, buffers, stamps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
YUYV, NV12, MJPG, GREY, UYVY = (
    float(cv2.VideoWriter.fourcc(*name)) for name in ("YUYV", "NV12", "MJPG", "GREY", "UYVY")
)
BYTES = {YUYV: 2.0, NV12: 1.5, GREY: 1.0}


@dataclass
class Driver:
    """What lies beneath: survives that the device is closed, and loses its controls when it is unplugged."""

    modes: dict[float, dict[tuple[int, int], float]] = field(
        default_factory=lambda: {YUYV: {(64, 48): 30.0, (192, 108): 5.0}, MJPG: {(64, 48): 30.0, (192, 108): 30.0}}
    )
    controls: dict[int, float] = field(
        default_factory=lambda: {
            cv2.CAP_PROP_AUTO_EXPOSURE: 3, cv2.CAP_PROP_EXPOSURE: 157, cv2.CAP_PROP_AUTO_WB: 1,
            cv2.CAP_PROP_WB_TEMPERATURE: 4600, cv2.CAP_PROP_GAIN: 4,
        }
    )  # fmt: skip
    largest_exposure: float = 5000
    stubborn: bool = False  # takes an exposure, and goes on changing it
    flat: bool = True  # raw frames as one row of bytes, as later releases of OpenCV hand them over
    short: set[int] = field(default_factory=set)  # numbers of the frames that come cut
    gone: bool = False
    frames: int = 0

    def unplug(self) -> None:
        self.gone = True

    def plug_in(self) -> None:
        self.gone = False
        self.controls = Driver().controls


class Capture:
    """One opening of it, with the methods of cv2.VideoCapture that the code calls."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._code = next(iter(driver.modes))
        self._size = next(iter(driver.modes[self._code]))
        self._half_set = 0
        self._convert = True
        self.released = False

    def isOpened(self) -> bool:
        return not self._driver.gone and not self.released

    def release(self) -> None:
        self.released = True

    def set(self, name: int, value: float) -> bool:
        driver = self._driver
        if name not in driver.controls and name in Driver().controls:
            return False
        if name == cv2.CAP_PROP_FOURCC:
            if value not in driver.modes:
                return False
            self._code = value
            self._size = self._size if self._size in driver.modes[value] else next(iter(driver.modes[value]))
        elif name == cv2.CAP_PROP_FRAME_WIDTH:
            self._half_set = int(value)
        elif name == cv2.CAP_PROP_FRAME_HEIGHT:
            wanted = (self._half_set, int(value))
            sizes = driver.modes[self._code]
            self._size = wanted if wanted in sizes else next(iter(sizes))  # a driver chooses one that it has
        elif name == cv2.CAP_PROP_CONVERT_RGB:
            self._convert = bool(value)
        elif name == cv2.CAP_PROP_EXPOSURE:
            if driver.controls.get(cv2.CAP_PROP_AUTO_EXPOSURE) != 1 and not driver.stubborn:
                return False
            driver.controls[name] = min(value, driver.largest_exposure)
        elif name == cv2.CAP_PROP_WB_TEMPERATURE:
            if driver.controls.get(cv2.CAP_PROP_AUTO_WB):
                return False
            driver.controls[name] = value
        elif name == cv2.CAP_PROP_AUTO_EXPOSURE:
            if value not in (1, 3) or driver.stubborn:
                return False
            driver.controls[name] = value
        elif name in driver.controls:
            driver.controls[name] = value
        else:
            return False
        return True

    def get(self, name: int) -> float:
        known: dict[int, float] = {
            cv2.CAP_PROP_FOURCC: self._code, cv2.CAP_PROP_FRAME_WIDTH: self._size[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self._size[1], cv2.CAP_PROP_CONVERT_RGB: float(self._convert),
            cv2.CAP_PROP_FPS: self._driver.modes[self._code].get(self._size, 30.0),
            cv2.CAP_PROP_POS_MSEC: (time.monotonic() - 0.02) * 1e3,
        }  # fmt: skip
        return float(known.get(name, self._driver.controls.get(name, -1.0)))

    def grab(self) -> bool:
        return self.isOpened()

    def read(self, buffer: U8 | None = None) -> tuple[bool, U8 | None]:
        if not self.isOpened():
            return False, None
        width, height = self._size
        self._driver.frames += 1
        number = self._driver.frames % 200
        if self._convert:
            if self._driver.frames in self._driver.short:
                return True, None  # imdecode gave nothing
            return True, into(buffer, np.full((height, width, 3), number, np.uint8))
        row = np.full((1, int(width * height * BYTES[self._code])), number, np.uint8)
        if self._driver.frames in self._driver.short:
            return True, into(buffer, row[:, :-64])
        if self._driver.flat:
            return True, into(buffer, row)
        shape = {YUYV: (height, width, 2), NV12: (height * 3 // 2, width), GREY: (height, width)}[self._code]
        return True, into(buffer, row.reshape(shape))


def into(buffer: U8 | None, data: U8) -> U8:
    """As OpenCV fills an argument: in place where the shape is the same, else a new one."""
    if buffer is None or buffer.shape != data.shape:
        return data.copy()
    np.copyto(buffer, data)
    return buffer


def sysfs(root: Any, devices: dict[str, dict[str, str]]) -> None:
    """/sys/class/video4linux and /dev under `root`. A device: `port` and the texts of vendor, product, ..."""
    for name, attributes in devices.items():
        usb = root / "devices" / attributes["port"]
        interface = usb / f"{attributes['port']}:1.0"
        interface.mkdir(parents=True, exist_ok=True)
        for key in ("idVendor", "idProduct", "serial"):
            if key in attributes:
                (usb / key).write_text(attributes[key] + "\n")
        entry = root / "class" / name
        entry.mkdir(parents=True)
        (entry / "name").write_text(attributes.get("name", "UVC Camera") + "\n")
        (entry / "index").write_text(attributes.get("index", "0") + "\n")
        (entry / "device").symlink_to(interface)
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev" / name).write_text("")
