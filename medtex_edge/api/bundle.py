"""Open a bundle as the device does, and read photographs with it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.api.reading import Reading
from medtex_edge.bundle import Bundle
from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError, ImageError, SettingsError
from medtex_edge.files import sha256
from medtex_edge.image.photo import MAX_PIXELS, read_photo
from medtex_edge.runtime.backend import handover
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.photo_reader import PhotoReader
from medtex_edge.runtime.scorer import Scorer


class OpenBundle:
    """A verified bundle with an inference engine, ready to read. Made by `open_bundle`; a context manager.

    Thread-safe: `read` and the streams of one bundle may run in several threads, and a lock admits one inference at a
    time. `close` waits for nothing: call it when no thread reads any more.
    """

    def __init__(self, path: Path, *, backend: str, precision: str | None, threads: int | None) -> None:
        with ExitStack() as stack:
            self._bundle = Bundle.open(path)
            self._sha256 = sha256(path)
            self._backend = stack.enter_context(
                handover.open(self._bundle, backend, precision=precision, threads=threads)
            )
            check_golden(self._backend, self._bundle, precision or "fp32")
            self._stack = stack.pop_all()
        self._reader = PhotoReader(self._backend, self._bundle.contract)
        self._closed = False

    @property
    def contract(self) -> Contract:
        """What the bundle promises: classes, sizes, temperature and operating point."""
        return self._bundle.contract

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return self._bundle.contract.classes

    @property
    def path(self) -> Path:
        """The file that was opened."""
        return self._bundle.path

    @property
    def sha256(self) -> str:
        """The checksum of the file, in hexadecimal; readings carry it as `bundle`."""
        return self._sha256

    @property
    def engine(self) -> str:
        """The inference engine, such as "onnxruntime:CPUExecutionProvider:fp32"."""
        return self._backend.name

    @property
    def report(self) -> dict[str, Any]:
        """What was measured when the bundle was exported; free in form."""
        return self._bundle.report

    def read(self, image: str | os.PathLike[str] | npt.NDArray[np.uint8], *, name: str = "array") -> Reading:
        """Read one photograph: the answer of `medtex-edge run --source PHOTO`.

        `image` is the path of a JPEG, PNG, TIFF, ... or an array (H, W, 3) uint8 RGB (OpenCV decodes BGR: give it
        `frame[..., ::-1]`). The whole photograph is wanted: the field of view is found and cropped here. `name` is
        the source of an array's reading. The array is neither changed nor kept.

        Raises `ImageError` for a file that cannot be decoded, `SettingsError` for an array of another type or shape,
        `BackendError` where the engine fails or the bundle is closed.

            reading = bundle.read("photo.jpg")
            if reading.verdict is medtex_edge.Verdict.UNGRADABLE:
                print(reading.reason, reading.detail)
        """
        self._check_open()
        began = time.monotonic()
        if isinstance(image, str | os.PathLike):
            name, pixels = os.fspath(image), read_photo(Path(image))
        else:
            pixels = _checked(image)
        reading, bgr = self._reader.read(pixels, name, (time.monotonic() - began) * 1e3)
        return Reading(reading, self.contract, self._sha256, bgr, "bgr")

    def close(self) -> None:
        """Give back the engine's memory. May be called twice."""
        self._closed = True
        self._stack.close()

    def __enter__(self) -> OpenBundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OpenBundle({str(self.path)!r}, {self.engine}{', closed' if self._closed else ''})"

    def _scorer(self, **options: Any) -> Scorer:
        """Scores the frames of one stream by this bundle's engine."""
        self._check_open()
        return Scorer(self._backend, self.contract, **options)

    def _score(self, scorer: Scorer, frame: Frame) -> Reading:
        """One frame of a stream. The frame's buffer is copied: it is filled again."""
        self._check_open()
        reading = self._reader.score(scorer, frame)
        pixels = None if frame.pixels is None else frame.pixels.copy()
        return Reading(reading, self.contract, self._sha256, pixels, frame.layout)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError(f"{self.path}: the bundle is closed", hint="read inside of its `with` block")


def open_bundle(
    path: str | os.PathLike[str],
    *,
    precision: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> OpenBundle:
    """Open a `.medtex` file, check every checksum, and prove on its golden vectors that this machine reproduces it.

    `precision` is "fp32", "fp16" or "int8", one of those that the bundle has; None: fp16 for TensorRT where there is
    one, else fp32. `backend` is "auto", "tensorrt", "onnxruntime" or "onnxruntime:PROVIDER", as `medtex-edge run
    --backend`; "auto" takes TensorRT where an engine of the bundle is on this device already. `threads` is the number
    of cores for one inference (None: all).

    Raises `BundleError` for a file that is no bundle, is damaged, lacks the precision, or whose golden vectors this
    machine does not reproduce; `SettingsError` for an argument that cannot be meant; `BackendError` where the engine
    is missing or fails.

        with medtex_edge.open_bundle("eye.medtex") as bundle:
            print(bundle.classes, bundle.read("photo.jpg").label)
    """
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise SettingsError(f"threads: expected a positive whole number or None, got {threads!r}")
    _check_path(path)
    return OpenBundle(Path(path), backend=backend, precision=precision, threads=threads)


def _check_path(path: object) -> None:
    if not isinstance(path, str | os.PathLike):
        got = type(path).__name__
        raise SettingsError(f"path: expected the path of a .medtex file, got {got}", hint="open_bundle('eye.medtex')")


def _checked(image: object) -> npt.NDArray[np.uint8]:
    expected = "expected a path or an array (H, W, 3) uint8 RGB"
    if not isinstance(image, np.ndarray):
        raise SettingsError(f"image: {expected}, got {type(image).__name__}", hint="convert it: numpy.asarray(image)")
    if image.dtype != np.uint8:
        hint = "scale it to 0..255: (image * 255).round().astype(numpy.uint8) if it lies in 0..1"
        raise SettingsError(f"image: {expected}, got {image.dtype} of shape {image.shape}", hint=hint)
    if image.ndim != 3 or image.shape[2] != 3:
        hint = "one photograph at a time, channels last; grey: numpy.stack([grey] * 3, axis=-1)"
        raise SettingsError(f"image: {expected}, got shape {image.shape}", hint=hint)
    got = f"{image.shape[1]} x {image.shape[0]} pixels"
    if min(image.shape) < 1:
        raise ImageError(f"image: expected a photograph, got {got}", hint="the array is empty: look where it is made")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise ImageError(
            f"image: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, got {got}", hint="make the photograph smaller"
        )
    return image
