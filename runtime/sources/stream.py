"""Network streams through FFmpeg: RTSP and all that is not MJPEG over HTTP (http_mjpeg.py)."""

from __future__ import annotations

import os
import time

import cv2

from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources.reconnect import SETTLE_S
from medtex_edge.runtime.sources.video import OPEN_TIMEOUT_MS, READ_TIMEOUT_MS, Live, frame_count

STREAM_HINT = "check the address, the network and that the camera sends; try the URL in VLC"
LATE_S = 1.0  # behind the stream's own clock, and it is opened again, which leaves what was held back behind
_LEAK = 1e-3  # seconds per second by which two clocks may differ; crystals do by a tenth of that
_JUMP_S = 10.0  # no lateness, but another count of time
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# RTSP over UDP loses packets, FFmpeg fills the holes from older frames, and OpenCV does not tell. A tenth of a second
# of the stream, in microseconds, is enough to know it; FFmpeg's own five seconds hold every recovery up.
_LIVE_OPTIONS = "rtsp_transport;tcp|analyzeduration;100000"
_DECODERS = 1  # threads; each further one holds a frame back, and FFmpeg would take as many as there are cores
_WAITED_S = 0.02  # for a frame that was not there yet, where the stream does not say its rate


class Stream(Live):
    """A network stream; a URL of a video with an end counts as a file.

    A live frame is handed over when the next one has come: the last before a cut may be half a frame, which FFmpeg
    fills up with the one before it.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._clock = StreamClock()
        self._timed = url.lower().startswith("rtsp")  # RTP carries the sender's clock; others are given one of 25 Hz
        self._arrived = 0.0  # of the frame that was grabbed and not retrieved
        self._late = 0
        super().__init__(name, [("FFmpeg", self._open)], STREAM_HINT)
        self.count = frame_count(self._capture)
        if self.count is not None:
            self.live = False

    @property
    def notes(self) -> list[str]:
        """What the user should be told at the end."""
        late = [f"{self.name}: opened again {self._late} times since it lagged behind"] if self._late else []
        return [*super().notes, *late]

    def read(self, frame: Frame) -> bool:
        """Fill `frame` with the newest picture that is known to be whole."""
        if not self.live or self._capture is None:
            return super().read(frame)
        began, captured = time.monotonic(), self._arrived
        try:
            got, buffer = self._capture.retrieve(frame.buffer)
        except cv2.error:
            return False
        decoded = time.monotonic() - began
        if not got or self._fit(buffer) is None or not self._grab(self._capture):
            return False
        frame.buffer = frame.pixels = buffer
        frame.source, frame.index, frame.error = self.name, self._index, ""
        frame.captured, frame.read_ms = captured, decoded * 1e3
        self._index += 1
        return True

    def skip(self) -> bool:
        """Take a frame off the source without converting it."""
        if not self.live:
            return super().skip()
        if self._capture is None or not self._grab(self._capture):
            return False
        self._index += 1
        return True

    def _grab(self, capture: cv2.VideoCapture) -> bool:
        """Take the next frame in, and when it was captured. False where there is none, or it is late."""
        if not capture.grab():
            return False
        now = time.monotonic()
        self._arrived = now
        if self._timed:
            self._arrived = self._clock.captured(float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3, now)
        if now - self._arrived > LATE_S:
            self._late += 1
            return False
        return True

    def _open(self) -> cv2.VideoCapture:
        how = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        if hasattr(cv2, "CAP_PROP_N_THREADS"):
            how += [cv2.CAP_PROP_N_THREADS, _DECODERS]
        # The only way to FFmpeg's options; whoever sets it means it. Files are not to be read with these.
        if _OPTIONS in os.environ:
            return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, how)
        os.environ[_OPTIONS] = _LIVE_OPTIONS
        try:
            return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, how)
        finally:
            os.environ.pop(_OPTIONS, None)

    def _prove(self, capture: cv2.VideoCapture) -> str:
        # A file over the network must keep its first frame, and needs no proof that it is alive.
        if frame_count(capture) is not None:
            return ""
        self._clock = StreamClock()
        # Asked once, unlike a camera that warms up: where FFmpeg has no frame, the connection has ended.
        if not self._grab(capture):
            return "opens, but gives no frame"
        self._drain(capture)
        return ""

    def _drain(self, capture: cv2.VideoCapture) -> None:
        """Leave out what FFmpeg gathered while it looked at the stream: those frames come without a wait."""
        end = time.monotonic() + SETTLE_S
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        waited = 0.5 / rate if 1.0 <= rate <= 100.0 else _WAITED_S
        while (began := time.monotonic()) < end:
            if not self._grab(capture) or time.monotonic() - began > waited:
                return


class StreamClock:
    """When a frame was captured, from the sender's clock: as late as it is against the promptest frame so far."""

    def __init__(self) -> None:
        self._offset: float | None = None  # from the sender's clock to ours, at its smallest
        self._stamp = 0.0
        self._last = 0.0

    def captured(self, stamp: float, now: float) -> float:
        """In seconds of `time.monotonic()`, `now` at the latest, for a frame that says `stamp` (seconds)."""
        offset = now - stamp
        # FFmpeg begins to count anew when it knows better where the stream began.
        if self._offset is None or stamp < self._stamp or abs(offset - self._offset) > _JUMP_S:
            self._offset = offset
        self._stamp = stamp
        self._offset = min(self._offset + _LEAK * (now - self._last if self._last else 0.0), offset)
        self._last = now
        return stamp + self._offset
