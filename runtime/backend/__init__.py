"""Inference engines. `onnxruntime` and `tensorrt` each have `open(bundle, ...) -> Backend`; the import chooses one.

A backend knows the graph and nothing of frames: it takes the image that `medtex_edge.image.geometry.prepare` made, and
returns `Outputs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import INPUT_NAME, Contract
from medtex_edge.errors import BackendError, SettingsError

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

# Half precision rounds 1.0 and a sum of probabilities by up to 1e-3; anything further is not a probability.
RANGE_TOLERANCE = 2e-3
SUM_TOLERANCE = 1e-2


class NonsenseError(BackendError):
    """An engine runs, and its outputs cannot be answers: NaN, values out of range, rows that do not add up to 1."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of the graph for N images.

    `probabilities` (N, C) float32, each row adds up to 1; `saliency` (N, h, w) float32 in 0..1; `gpu_ms` the
    milliseconds of the GPU for all N, copies included, by its own clock, or None where the engine does not measure it.
    """

    probabilities: npt.NDArray[np.float32]
    saliency: npt.NDArray[np.float32]
    gpu_ms: float | None = None


class Backend(Protocol):
    """An opened engine; a context manager. `infer` may be called from any thread, by one thread at a time.

    It may have an `input_buffer`, (1, H, W, 3) uint8 or None: an image that is prepared there by the thread that calls
    `infer` with it next needs no copy.
    """

    name: str

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        """(N, H, W, 3) uint8 RGB -> `Outputs`.

        Raises `BackendError` where the engine fails or answers nonsense.
        """

    def close(self) -> None:
        """Give back the engine's memory and threads. May be called twice."""

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_backend(name: str, bundle: Bundle, *, precision: str = "fp32", threads: int | None = None) -> Backend:
    """Open the engine `name`: "onnxruntime", "onnxruntime:PROVIDER" for one of its execution providers, "tensorrt".

    Raises `SettingsError` for a name that no engine has, and what the engine's own `open` raises.
    """
    engine, _, provider = name.partition(":")
    # Imported below so that choosing the engine chooses the dependency.
    if name == "tensorrt":
        from medtex_edge.runtime.backend import tensorrt

        return tensorrt.open(bundle, precision=precision, threads=threads)
    if engine != "onnxruntime":
        raise SettingsError(
            f"backend: expected onnxruntime, onnxruntime:PROVIDER or tensorrt, got {name!r}",
            hint="`medtex-edge doctor` lists what this machine offers",
        )
    from medtex_edge.runtime.backend import onnxruntime

    provider = provider or onnxruntime.CPU
    return onnxruntime.open(bundle, precision=precision, threads=threads, provider=provider)


def check_image(image: npt.NDArray[np.uint8], contract: Contract) -> None:
    """Raise `BackendError` unless `image` is (N, H, W, 3) uint8 of the contract's size."""
    expected = (contract.height, contract.width, 3)
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[0] < 1 or image.shape[1:] != expected:
        raise BackendError(f"{INPUT_NAME}: expected (N, {expected[0]}, {expected[1]}, 3) uint8, "
                           f"got {image.shape} {image.dtype}")  # fmt: skip


def check_outputs(outputs: Outputs, count: int, contract: Contract) -> None:
    """Raise `NonsenseError` unless shapes, ranges and sums are as promised; NaN is out of range."""
    _check_range("probabilities", outputs.probabilities, (count, len(contract.classes)))
    _check_range("saliency", outputs.saliency, (count, contract.saliency_height, contract.saliency_width))
    off = float(np.abs(outputs.probabilities.sum(axis=1) - 1.0).max())
    if not off <= SUM_TOLERANCE:
        raise NonsenseError(f"probabilities: expected each row to add up to 1, one is {off:.3g} away from it")


def _check_range(name: str, value: npt.NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if value.shape != shape or value.dtype != np.float32:
        raise NonsenseError(f"{name}: expected {shape} float32, got {value.shape} {value.dtype}")
    low, high = float(value.min()), float(value.max())
    # Written so that NaN, for which every comparison is false, is refused too.
    if not (low >= -RANGE_TOLERANCE and high <= 1.0 + RANGE_TOLERANCE):
        raise NonsenseError(
            f"{name}: expected numbers in 0..1, the engine gave {low:g}..{high:g}",
            hint="another --precision may do; `medtex-edge verify` recomputes the bundle's own proof",
        )
