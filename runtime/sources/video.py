"""Video files, and the common part of cameras and network streams: frames by OpenCV's VideoCapture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import cv2

from medtex_edge.errors import SourceError
from medtex_edge.image.photo import MAX_PIXELS
from medtex_edge.runtime.frame import Frame, Pixels
from medtex_edge.runtime.sources import pixel_layout

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 1000
FIRST_FRAME_S = 4.0  # cameras that adjust their exposure take this long; their empty reads are no failure
BROKEN_S = 0.5  # of pictures that do not fit, one after the other, and the source counts as lost

Attempt = tuple[str, Callable[[], "cv2.VideoCapture"]]  # (its description for the list of attempts, how to open it)


class _Video:
    """The base of files, streams and cameras: an opened capture, read into the frame's own buffer."""

    live = False
    stream = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.rate = 0.0
        self.count: int | None = None
        self.broken = 0  # damaged pictures, which were dropped
        self.layout = "bgr"
        self._shape: tuple[int, ...] | None = None  # of every frame; None where decoded pictures may have any size
        self._notes: list[str] = []
        self._index = 0
        self._capture: cv2.VideoCapture | None = None

    @property
    def notes(self) -> list[str]:
        """Lines for the user at the end of the run."""
        broken = [f"{self.name}: {self.broken} damaged frames were left out"] if self.broken else []
        return [*self._notes, *broken]

    def read(self, frame: Frame) -> bool:
        """Fill `frame` with the next picture, in place where its size is that of the slot's last one."""
        deadline = time.monotonic() + BROKEN_S
        while self._capture is not None:
            began = time.monotonic()
            try:
                got, buffer = self._capture.read(frame.buffer)
            except cv2.error:  # a stream cut in mid-picture; the same as no picture
                return False
            if not got:
                return False
            now = time.monotonic()
            pixels = self._fit(buffer)
            if pixels is not None:
                frame.buffer, frame.pixels, frame.layout = buffer, pixels, self.layout
                frame.source, frame.index, frame.error = self.name, self._index, ""
                frame.captured = self._captured(began, now)
                frame.read_ms = (now - began) * 1e3
                self._index += 1
                return True
            if not self.live or now > deadline:
                return False
            self.broken += 1
        return False

    def _fit(self, pixels: Pixels | None) -> Pixels | None:
        """OpenCV's frame in the shape of its layout; None where it is no whole picture."""
        if pixels is None:
            return None
        if self._shape is not None:
            return pixel_layout.view(pixels, self._shape)
        return pixels if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0 else None

    def skip(self) -> bool:
        """Take a frame off the source without decoding it."""
        if self._capture is None or not self._capture.grab():
            return False
        self._index += 1
        return True

    def reopen(self) -> None:
        """Close and open again. Raises `SourceError`."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the device or file. May be called twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __enter__(self) -> _Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _captured(self, began: float, now: float) -> float:
        return began

    def _adopt(self, capture: cv2.VideoCapture) -> None:
        self.close()
        self._capture = capture
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        # Drivers that do not know the rate report 0, NaN or their time base (90000).
        self.rate = rate if 1.0 <= rate <= 1000.0 else 0.0
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            self.close()
            raise SourceError(f"{self.name}: {width:.0f} x {height:.0f} pixels, "
                              f"expected at most {MAX_PIXELS / 1e6:.0f} megapixels")  # fmt: skip


class VideoFile(_Video):
    """A video in a file: every frame counts."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        # Absolute, since FFmpeg takes "name:rest" for a protocol.
        self._path = str(path.resolve())
        self.reopen()

    def reopen(self) -> None:
        """Start again at the first frame. Raises `SourceError`."""
        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise SourceError(
                f"{self.name}: FFmpeg in OpenCV finds no video in it",
                hint="play it elsewhere to see whether it is whole, or convert it to mp4",
            )
        self._adopt(capture)
        self._index = 0
        self.count = frame_count(capture)

    def read(self, frame: Frame) -> bool:
        """Fill `frame`; at the end, note a file that holds fewer frames than its header claims."""
        if super().read(frame):
            return True
        if self._index == 0:
            raise SourceError(f"{self.name}: no frame of it can be decoded", hint="the file is damaged")
        # Containers count roughly, so only a clear difference is worth a note.
        if self.count is not None and self._index < 0.95 * self.count - 2:
            self._notes.append(f"{self.name}: ended after {self._index} of {self.count} frames: cut or damaged")
        return False


class Live(_Video):
    """A camera: opened by the first attempt that gives a picture, and opened again when it stops."""

    live = True

    def __init__(self, name: str, attempts: Sequence[Attempt], hint: str) -> None:
        super().__init__(name)
        self._attempts = tuple(attempts)
        self._hint = hint
        self.reopen()

    def reopen(self) -> None:
        """Make every attempt in turn. Raises `SourceError` that lists the attempts and how each failed."""
        self.close()
        tried: list[str] = []
        for what, opener in self._attempts:
            try:
                capture = opener()
            except SourceError as error:
                tried.append(f"{what}: {error.message}")
                continue
            try:
                failure = self._ready(capture) if capture.isOpened() else "cannot be opened"
            except SourceError as error:
                failure = error.message
            if not failure:
                self._adopt(capture)
                return
            capture.release()
            tried.append(f"{what}: {failure}")
        raise SourceError(f"{self.name}: no picture. Tried {'; '.join(tried)}", hint=self._hint)

    def _ready(self, capture: cv2.VideoCapture) -> str:
        """Make an opened device give pictures. Returns the failure, or ''; may raise `SourceError`."""
        return self._prove(capture)

    def _prove(self, capture: cv2.VideoCapture) -> str:
        """One picture, thrown away: many devices open and then give nothing. Returns the failure, or ''."""
        deadline = time.monotonic() + FIRST_FRAME_S
        while time.monotonic() < deadline:
            began = time.monotonic()
            if capture.grab():
                self._check_clock(capture)
                return ""
            # A device that fails at once will not recover by a thousand tries a second.
            time.sleep(max(0.0, 0.05 - (time.monotonic() - began)))
        return f"opens, but gives no frame within {FIRST_FRAME_S:g} s"

    def _check_clock(self, capture: cv2.VideoCapture) -> None:
        """Check the clock of the frames; for sources whose frames carry the time of their exposure."""

    def _captured(self, began: float, now: float) -> float:
        return now


def frame_count(capture: cv2.VideoCapture | None) -> int | None:
    """How many frames it holds; None where that is unknown, as for a camera."""
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture is not None else 0.0
    # FFmpeg's estimates of a length that it does not know are negative or astronomical.
    return int(frames) if 0 < frames < 1e9 else None
