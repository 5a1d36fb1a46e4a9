"""Serve at once with one backend, and move to a better one between two frames, once that is built and proved.

An engine of TensorRT takes minutes to build. Until it is there, and where it fails, ONNX Runtime serves: the answers
of both have to be those of the bundle's golden vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import BackendError, BundleError, MedtexError, SettingsError, StorageError
from medtex_edge.runtime.backend import Backend, NonsenseError, Outputs, onnxruntime, open_backend
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.engines import key as engine_key
from medtex_edge.runtime.engines.build import BuildProcess, command
from medtex_edge.runtime.engines.cache import Cache
from medtex_edge.runtime.engines.key import EngineKey

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

Told = Callable[[str], None]


class Preparation(Protocol):
    """What makes the better backend; `EngineBuild` is one."""

    def run(self, heard: Callable[[str, float], None]) -> Backend | None:
        """Until it is ready and proved; None where it was stopped. Raises `MedtexError`. In a thread of its own."""

    def stop(self) -> None:
        """End `run` soon; from any thread."""


class Switching:
    """A backend in two acts. `begin` starts to prepare the second; both are closed by `close`."""

    def __init__(self, first: Backend, preparation: Preparation, told: Told) -> None:
        self.name = first.name  # of the backend that serves now
        self._serving = first
        self._preparation = preparation
        self._told = told
        self._thread = threading.Thread(target=self._prepare, name="medtex-edge-engine")
        self._better: Backend | None = None
        self._old: Backend | None = None
        self._turned = threading.Event()
        self._frames = 0
        self._closing = False
        self.progress = ""  # of the engine: how much of it is done, and the step; '' where none is prepared
        self.notes: list[str] = []

    @property
    def input_buffer(self) -> npt.NDArray[np.uint8] | None:
        """(1, H, W, 3): where the next image can be written without a copy, by backends that have such a place."""
        buffer: npt.NDArray[np.uint8] | None = getattr(self._serving, "input_buffer", None)
        return buffer

    def begin(self) -> None:
        """Prepare the better backend from now on."""
        self._told(f"the engine for this device is being built; meanwhile {self.name} serves")
        self._frames = 0
        self.progress = "0%: starting"
        self._thread.start()

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        """(N, H, W, 3) uint8 RGB -> `Outputs`, by whichever serves. Raises `BackendError`."""
        if self._better is not None:
            self._old, self._serving, self._better = self._serving, self._better, None
            self.name = self._serving.name
            self.notes.append(f"{self._frames} images by {self._old.name}, then by {self.name}")
            self._turned.set()
        self._frames += 1
        return self._serving.infer(image)

    def close(self) -> None:
        """End what is being prepared, and close both."""
        self._closing = True
        self._preparation.stop()
        self._turned.set()
        if self._thread.ident is not None:
            self._thread.join()
        for backend in (self._serving, self._better):
            if backend is not None:
                backend.close()

    def __enter__(self) -> Switching:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        """The thread's body."""
        try:
            self._better = self._preparation.run(self._hear)
        except MedtexError as error:
            self._give_up(_told(error))
        except Exception as error:  # a fault in what would be faster must not end a run that works
            self._give_up(f"{type(error).__name__}: {error}")
        self.progress = ""
        if self._better is not None:
            # Told and closed here, so that no frame waits for it.
            self._turned.wait()
        if self._old is not None:
            self._old.close()
            self._told(self.notes[-1])

    def _hear(self, step: str, done: float) -> None:
        self.progress = f"{done:.0%}: {step}"

    def _give_up(self, why: str) -> None:
        if not self._closing:
            self.notes.append(f"{why}; the run goes on with {self.name}")
            self._told(self.notes[-1])


class EngineBuild:
    """Builds the engine of one graph in a process of its own, and opens it."""

    def __init__(self, bundle: Bundle, key: EngineKey, cache: Cache) -> None:
        self._bundle, self._key, self._cache = bundle, key, cache
        self._heard: Callable[[str, float], None] = lambda step, done: None
        self._process = BuildProcess(command(bundle.path, key.precision), lambda step, done: self._heard(step, done))

    def run(self, heard: Callable[[str, float], None]) -> Backend | None:
        """See `Preparation`."""
        self._heard = heard
        try:
            if not self._process.run():
                return None
        finally:
            with suppress(StorageError):
                self._cache.sweep()
        heard("proving", 1.0)
        return open_cached(self._bundle, self._key, self._cache)

    def stop(self) -> None:
        """See `Preparation`."""
        self._process.stop()


class NoEngine(BackendError):
    """No engine of that graph is on this device yet."""


def open(
    bundle: Bundle, name: str, *, precision: str | None = None, threads: int | None = None, require: bool = False,
    told: Told = lambda line: None,
) -> Backend:  # fmt: skip
    """Open the backend `name` for a run: what `open_backend` knows, or "auto": TensorRT where it is there.

    `precision` None: fp16 for TensorRT where the bundle has it, else fp32. Where an engine of TensorRT is not there
    yet, a `Switching` is returned, whose `begin` builds it. `require`: TensorRT from the first frame on, or
    `BackendError`. `told` hears why it is not TensorRT that serves. Raises what `open_backend` raises.
    """
    key = _key(bundle, name, precision, require, told)
    if key is None:
        if name == "auto":
            return onnxruntime.open_best(bundle, precision=precision or "fp32", threads=threads)
        return open_backend(name, bundle, precision=precision or "fp32", threads=threads)
    cache = Cache(told=told)
    better: Preparation | None = EngineBuild(bundle, key, cache)
    try:
        return open_cached(bundle, key, cache)
    except MedtexError as error:
        if require or not isinstance(error, BackendError | BundleError):
            raise
        if isinstance(error, BundleError):  # it was refused, now or earlier: another one would be no better
            better = None
        if not isinstance(error, NoEngine):
            told(f"{_told(error)}; ONNX Runtime serves")
    first = onnxruntime.open_best(bundle, precision=precision or "fp32", threads=threads)
    return first if better is None else Switching(first, better, told)


def open_cached(bundle: Bundle, key: EngineKey, cache: Cache) -> Backend:
    """Open the engine of `key` and prove it.

    Raises `NoEngine`, `BackendError` for one that does not load (it is removed), `BundleError` for one whose answers
    are not the bundle's (it is put aside), now or earlier.
    """
    build = f"medtex-edge engine build {bundle.path} --precision {key.precision}"
    why = cache.refused(key)
    if why:
        raise BundleError(f"the engine of {key.precision} was refused: {why}", hint=f"{build} --again, to try anew")
    plan = cache.get(key)
    if plan is None:
        raise NoEngine(f"tensorrt: no engine of {bundle.path.name} ({key.precision}) on this device yet", hint=build)
    try:
        return open_proved(bundle, key.precision, plan)
    except BundleError as error:
        cache.refuse(key, plan, error.message)
        raise
    except BackendError as error:
        cache.remove(key)
        raise BackendError(f"the engine of {key.precision} does not load: {error.message}", hint=build) from error


def open_proved(bundle: Bundle, precision: str, plan: bytes) -> Backend:
    """Open a plan. Raises `BackendError` where it does not load, `BundleError` where its answers are wrong."""
    try:
        backend = _open_plan(bundle, precision, plan)
        try:
            check_golden(backend, bundle, precision)
        except MedtexError:
            backend.close()
            raise
    except NonsenseError as error:  # it runs, and is wrong
        raise BundleError(error.message, hint=error.hint) from error
    return backend


def _open_plan(bundle: Bundle, precision: str, plan: bytes) -> Backend:
    from medtex_edge.runtime.backend.tensorrt import runner

    return runner.open_engine(plan, bundle.contract, label=precision)


def _key(bundle: Bundle, name: str, precision: str | None, require: bool, told: Told) -> EngineKey | None:
    """The key of the engine that is meant, or None for ONNX Runtime."""
    if name not in ("auto", "tensorrt"):
        if require:
            raise SettingsError(f"--require-tensorrt: expected --backend tensorrt or auto, got {name}")
        return None
    needed = require or name == "tensorrt"
    if not needed and engine_key.lacks_tensorrt():
        return None
    try:
        return engine_key.key_of(bundle, engine_key.precision_of(bundle, precision))
    except BackendError as error:
        if needed:
            raise
        told(f"{_told(error)}; ONNX Runtime serves")
        return None


def _told(error: MedtexError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
