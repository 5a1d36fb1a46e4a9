"""Read a camera, a stream, a video or a folder frame by frame, as `medtex-edge run` does."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeGuard

from medtex_edge.api.bundle import OpenBundle, open_bundle
from medtex_edge.errors import SettingsError
from medtex_edge.runtime.capture import Capture
from medtex_edge.runtime.smoothing import LIVE_S

MOST_SMOOTH_S = 10  # as `medtex-edge run --smooth`

if TYPE_CHECKING:
    from medtex_edge.api.reading import Reading
    from medtex_edge.runtime.sources.base import FrameSource


def stream(
    bundle: OpenBundle | str | os.PathLike[str],
    *,
    camera: int | str | None = None,
    source: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    smooth: float | None = None,
    max_frames: int | None = None,
    retries: int | None = None,
) -> Iterator[Reading]:
    """Yield one `Reading` per frame of a camera (`camera=0`, "/dev/video2", "csi") or of a `source`.

    `source` is a photograph, a folder, a glob, a video, or the URL of a stream. Of a camera or stream the newest frame
    wins: frames that come while the loop's body works are dropped, and a frame that is stale, black or a repetition
    of the one before comes as an ungradable reading with its `reason`. A camera or stream that stops is opened again.
    Of files every frame is read. `bundle` is an open bundle, which stays open, or the path of one.

    `size` (width, height) and `fps` are requested from a camera. `smooth` is over how many seconds answers are averaged
    (None: 0.3 for live sources, else 0; 0: every frame by itself). `max_frames` ends after so many readings, `retries`
    is the number of attempts to open a source again (None: for ever).

    The source is opened at the first step of the loop, and closed when the loop ends: by the end of the source,
    `break`, an exception or `close()` of the generator. The generator is for one thread at a time; several may share
    one bundle. Raises `SettingsError`, `SourceError`, `DataError`, `BundleError`, `BackendError`.

        for reading in medtex_edge.stream("eye.medtex", camera=0):
            print(reading.verdict.value, reading.label)
    """
    if (camera is None) == (source is None):
        came = "neither" if camera is None else "both"
        raise SettingsError(f"stream: expected camera or source, got {came}", hint="camera=0, or source='photos/'")
    if camera is None and (size is not None or fps is not None):
        raise SettingsError("stream: expected a camera with size and fps, got a source", hint="leave them out")
    _check(source, size, fps, smooth, max_frames, retries)
    return _readings(bundle, camera, source, size, fps, smooth, max_frames, retries)


def _check(source: object, size: object, fps: object, smooth: object, max_frames: object, retries: object) -> None:
    """Raise `SettingsError` for a value that cannot be meant, whatever its type is."""
    if source is not None and not isinstance(source, str | os.PathLike):
        hint = "a camera has a parameter of its own: camera=0; an array is read by bundle.read(array)"
        raise SettingsError(f"source: expected a path, a glob or a URL, got {type(source).__name__}", hint=hint)
    if size is not None and not (isinstance(size, tuple | list) and len(size) == 2 and all(map(_positive, size))):
        raise SettingsError(f"size: expected (width, height) in pixels or None, got {size!r}", hint="size=(1920, 1080)")
    if fps is not None and not (_number(fps) and 0 < fps < math.inf):
        raise SettingsError(f"fps: expected a positive number or None, got {fps!r}", hint="fps=30")
    if smooth is not None and not (_number(smooth) and 0 <= smooth <= MOST_SMOOTH_S):
        raise SettingsError(
            f"smooth: expected 0 to {MOST_SMOOTH_S} seconds or None, got {smooth!r}", hint="smooth=0 averages nothing"
        )
    if max_frames is not None and not _positive(max_frames):
        raise SettingsError(
            f"max_frames: expected a positive whole number or None, got {max_frames!r}", hint="None reads to the end"
        )
    if retries is not None and not (retries == 0 or _positive(retries)):
        raise SettingsError(
            f"retries: expected a whole number from 0 on or None, got {retries!r}", hint="None tries for ever"
        )


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _readings(
    bundle: OpenBundle | str | os.PathLike[str],
    camera: int | str | None,
    source: str | os.PathLike[str] | None,
    size: tuple[int, int] | None,
    fps: float | None,
    smooth: float | None,
    max_frames: int | None,
    retries: int | None,
) -> Iterator[Reading]:
    with ExitStack() as stack:
        opened = bundle if isinstance(bundle, OpenBundle) else stack.enter_context(open_bundle(bundle))
        frames = _open(camera, source, size, fps)
        stack.callback(frames.close)
        scorer = opened._scorer(
            live=frames.live, stream=frames.stream, rate=frames.rate,
            smooth_s=smooth if smooth is not None else LIVE_S if frames.live else 0.0,
        )  # fmt: skip
        capture = Capture(frames, retries=retries)
        # Left in this order: the capture is stopped, its thread ends, the source is closed.
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="medtex-edge-stream"))
        stack.callback(capture.stop)
        running = pool.submit(capture.run)
        count = 0
        while (frame := capture.next()) is not None:
            try:
                reading = opened._score(scorer, frame)
            finally:
                capture.release(frame)
            yield reading
            count += 1
            if count == max_frames:
                return
        running.result()  # raises what ended the capture


def _open(
    camera: int | str | None,
    source: str | os.PathLike[str] | None,
    size: tuple[int, int] | None,
    fps: float | None,
) -> FrameSource:
    if source is not None:
        from medtex_edge.runtime.sources.open import open_source

        return open_source(os.fspath(source))
    from medtex_edge.runtime.sources.camera import CameraSettings, open_camera

    return open_camera(str(camera), CameraSettings(size=size, fps=fps))
