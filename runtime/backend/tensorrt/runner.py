"""Opens a TensorRT engine that was built on this device and runs it on the GPU, by one launch a frame.

Only names that TensorRT 10.3 to 11 and TensorRT for RTX share are used. One image at a time goes through the engine:
a camera gives one at a time, and a captured graph repeats one.
"""

from __future__ import annotations

import weakref
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend import Outputs, check_image, check_outputs
from medtex_edge.runtime.backend.tensorrt import cuda
from medtex_edge.runtime.backend.tensorrt.engine import Engine

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

MODULES = ("tensorrt", "tensorrt_rtx")
OLDEST = (10, 3)  # of "tensorrt": JetPack 6.1
_WARM_UP = 3  # runs before the capture: the first ones load and allocate, which cannot be captured


class TensorRtBackend:
    """One engine on one GPU. Made by `open` or `open_engine`. Threads that call `infer` at once wait for each other."""

    def __init__(self, engine: Engine, contract: Contract, name: str) -> None:
        self.name = name
        self._engine = engine
        self._contract = contract
        # Runs once: by `close`, or with the last reference to this, or at exit, while everything is still loaded.
        self._release = weakref.finalize(self, engine.close)

    @property
    def input_buffer(self) -> npt.NDArray[np.uint8] | None:
        """(1, H, W, 3) uint8 page-locked memory: an image that is written there needs no copy. None once closed.

        For the thread that calls `infer` with it next. Read it anew for each image; earlier buffers stay valid.
        """
        return self._engine.image

    @property
    def not_captured(self) -> str:
        """Why each image is queued call by call; empty where one launch replays a captured graph."""
        return self._engine.not_captured

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        """(N, H, W, 3) uint8 RGB -> `Outputs`; its `gpu_ms` is the sum of N runs. Raises `BackendError`."""
        c = self._contract
        check_image(image, c)
        count = len(image)
        probabilities = np.empty((count, len(c.classes)), np.float32)
        saliency = np.empty((count, c.saliency_height, c.saliency_width), np.float32)
        gpu_ms = sum(map(self._engine.run, image, probabilities, saliency))
        outputs = Outputs(probabilities, saliency, gpu_ms)
        check_outputs(outputs, count, c)
        return outputs

    def close(self) -> None:
        """Give back the engine and its memory, after the image that is under way."""
        self._release()

    def __enter__(self) -> TensorRtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(
    bundle: Bundle, *, precision: str = "fp32", threads: int | None = None, plan: bytes | None = None
) -> TensorRtBackend:
    """Open `plan`, or else the engine that was built on this device from the bundle's graph of that precision.

    `threads` has no effect on a GPU. Raises `BundleError` for a precision that the bundle lacks, `BackendError` where
    GPU, pycuda, TensorRT or the engine is missing or fails.
    """
    if plan is None:
        plan = built(bundle, precision)
    return open_engine(plan, bundle.contract, label=precision)


def built(bundle: Bundle, precision: str) -> bytes:
    """The plan of the engine that was built on this device. Raises as `open` does."""
    from medtex_edge.runtime.engines import key as engine_key
    from medtex_edge.runtime.engines.cache import Cache

    key = engine_key.key_of(bundle, precision)
    plan = Cache().get(key)
    if plan is None:
        raise BackendError(
            f"{key.trt_module}: no engine yet for {bundle.path.name}, {precision}, on {key.gpu} with {key.trt_version}",
            hint=f"medtex-edge engine build {bundle.path} --precision {precision}",
        )
    return plan


def open_engine(
    plan: bytes, contract: Contract, *, label: str = "engine", trt: ModuleType | None = None, graph: bool = True
) -> TensorRtBackend:
    """Open an engine given as bytes, and check its names, types and shapes against `contract`.

    Black images go through it, which warms it up. `graph` False: no CUDA graph is captured, for comparison.
    Raises `BackendError`.
    """
    context = cuda.context()  # first: without a driver TensorRT's own start ends the process
    trt = trt or module()
    name = f"{trt.__name__}:{label}"
    engine = Engine(context, trt, name)
    black = np.zeros((1, contract.height, contract.width, 3), np.uint8)
    try:
        engine.open(plan, contract)
        backend = TensorRtBackend(engine, contract, name)
        for _ in range(_WARM_UP):
            backend.infer(black)
        if graph:
            engine.capture()
            backend.infer(black)  # proves the graph, or that the stream has outlived its refusal
    except BaseException:
        engine.close()
        raise
    return backend


def module() -> ModuleType:
    """`tensorrt`, or else `tensorrt_rtx`. Raises `BackendError` where neither works, or it is too old."""
    broken = []
    for name in MODULES:
        if find_spec(name) is None:
            continue
        try:
            trt = import_module(name)
        except (ImportError, OSError, RuntimeError) as error:  # its libraries are missing, or of another version
            broken.append(f"{name}: {error}")
            continue
        if name == "tensorrt" and _version(trt) < OLDEST:
            raise BackendError(
                f"tensorrt: expected {OLDEST[0]}.{OLDEST[1]} or newer, got {trt.__version__}",
                hint=f"JetPack 6.1 and newer bring it; {cuda.ELSEWHERE}",
            )
        return trt
    raise BackendError(
        f"tensorrt is missing or broken: {'; '.join(broken) or 'not installed'}",
        hint="JetPack: apt install python3-libnvinfer, and a virtual environment with --system-site-packages; "
        f"elsewhere: pip install tensorrt; {cuda.ELSEWHERE}",
    )


def _version(trt: ModuleType) -> tuple[int, ...]:
    return tuple(int(part) for part in trt.__version__.split(".")[:2])
