"""A video of a synthetic eye: drift, zoom and rotation, a blink, a loss of focus, new noise in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.errors import SettingsError, StorageError
from medtex_edge.files import atomic_path
from medtex_edge.image.photo import Image
from medtex_edge.progress import Progress, counting
from medtex_edge.train.synthetic.camera import develop
from medtex_edge.train.synthetic.canvas import Floats
from medtex_edge.train.synthetic.scene import expose_eye

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def write_video(
    path: Path,
    seed: int = 0,
    frames: int = 250,
    size: int = 480,
    fps: float = 25.0,
    *,
    grade: int | None = None,
    progress: Progress = None,
) -> Path:
    """Write `frames` frames, `size` pixels high and 4/3 as wide, as .mp4 or .avi, atomically. Returns `path`.

    Raises `SettingsError` for another suffix or impossible numbers, `StorageError` where it cannot be written.
    """
    path = Path(path)
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise SettingsError(f"{path}: expected a name that ends in {' or '.join(CODECS)}")
    if frames < 1 or not 0 < fps <= 240:
        raise SettingsError(f"expected at least one frame and 0 to 240 frames a second, got {frames} and {fps:g}")
    height, width = size // 2 * 2, size * 2 // 3 * 2  # codecs want even sides
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
        try:
            if not writer.isOpened():
                raise StorageError(
                    f"{path}: OpenCV cannot write {codec} video here", hint="choose a name that ends in .avi"
                )
            with counting(progress, "filming", frames) as advance:
                for image in film(seed, frames, height, width, grade=grade):
                    writer.write(np.ascontiguousarray(image[..., ::-1]))
                    advance()
        finally:
            writer.release()
        # VideoWriter reports no full disk, so the frames are counted.
        if (written := count_frames(temporary)) != frames:
            raise StorageError(f"{path}: {written} of {frames} frames were written", hint="is the disk full?")
    return path


def count_frames(path: Path) -> int:
    """The number of frames that can be read from a video."""
    video = cv2.VideoCapture(str(path))
    try:
        count = 0
        while video.grab():
            count += 1
        return count
    finally:
        video.release()


def film(seed: int, frames: int, height: int, width: int, *, grade: int | None = None) -> Iterator[Image]:
    """Yield (H, W, 3) uint8 RGB frames, with a blink at a third of the time and a loss of focus at two thirds."""
    eye = expose_eye((seed, 3), size=height, grade=grade)
    still = eye.light
    phases = np.random.default_rng((seed, 4)).uniform(0, 2 * np.pi, 5)
    blink = max(2, frames // 30)
    for index in range(frames):
        time = index / max(1, frames)
        image = _move(still, time, phases, height, width)
        lid = 1 - abs(index - frames // 3) / blink
        if lid > 0:
            image = image * np.float32(max(0.0, 1 - 3 * lid))
        defocus = 1 - abs(time - 2 / 3) / 0.07
        if defocus > 0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.3 + 9 * defocus * height / 480), np.float32)
        yield develop(eye.grain, eye.camera, image)


def _move(still: Floats, time: float, phases: npt.NDArray[np.float64], height: int, width: int) -> Floats:
    """(S, S, 3) float32 -> (height, width, 3) float32: the eye under a moving camera at `time` 0..1 of the video."""
    turns = 2 * np.pi * time
    angle = 5 * np.sin(2 * turns + phases[0])
    zoom = 1.0 + 0.08 * np.sin(1.5 * turns + phases[1])
    shift_x = height * (0.04 * np.sin(3 * turns + phases[2]) + 0.006 * np.sin(23 * turns + phases[4]))
    shift_y = height * (0.03 * np.sin(2 * turns + phases[3]) + 0.005 * np.sin(29 * turns + phases[0]))
    centre = (still.shape[1] - 1) / 2, (still.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D(centre, float(angle), float(zoom))
    matrix[:, 2] += (width - still.shape[1]) / 2 + shift_x, (height - still.shape[0]) / 2 + shift_y
    return np.asarray(cv2.warpAffine(still, matrix, (width, height), flags=cv2.INTER_LINEAR), np.float32)
