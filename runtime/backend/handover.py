"""The handover: one backend serves at once, and a better one takes over between two frames when it is proved.

A TensorRT engine takes minutes to build. Until it is ready, and where it fails, ONNX Runtime serves. The answers of
both have to be those of the bundle's golden vectors.
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

OnMessage = Callable[[str], None]  # a callback for one line of text
OnProgress = Callable[[str, float], None]  # a callback for the step under way and the fraction done in 0..1


class Preparation(Protocol):
    """A task that makes the better backend; `EngineBuild` is one."""

    def run(self, on_progress: OnProgress) -> Backend | None:
        """Return the backend when it is ready and proved, None where it was stopped. Raises `MedtexError`.

        Called in a thread of its own, which also calls `on_progress`.
        """

    def stop(self) -> None:
        """End `run` soon; from any thread."""


class Handover:
    """A backend that serves by `first` until the result of `preparation` takes over.

    `begin` starts the preparation, `close` closes both backends. `on_message` receives each change as a line of text.
    As in `Backend`, one thread at a time calls `infer`.
    """

    def __init__(self, first: Backend, preparation: Preparation, on_message: OnMessage) -> None:
        self.name = first.name  # of the backend that serves now
        self._serving = first
        self._preparation = preparation
        self._on_message = on_message
        self._thread = threading.Thread(target=self._prepare, name="medtex-edge-engine")
        self._better: Backend | None = None
        self._old: Backend | None = None
        self._turned = threading.Event()
        self._frames = 0
        self._closing = False
        self.progress = ""  # of the preparation, such as "25%: choosing kernels"; '' where none is under way
        self.notes: list[str] = []

    @property
    def input_buffer(self) -> npt.NDArray[np.uint8] | None:
        """(1, H, W, 3) uint8 memory where the next image needs no copy; None where the backend has none."""
        buffer: npt.NDArray[np.uint8] | None = getattr(self._serving, "input_buffer", None)
        return buffer

    def begin(self) -> None:
        """Start to prepare the better backend, in a thread of its own."""
        self._on_message(f"the engine for this device is being built; meanwhile {self.name} serves")
        self._frames = 0
        self.progress = "0%: starting"
        self._thread.start()

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        """(N, H, W, 3) uint8 RGB -> `Outputs`, by the backend that serves now. Raises `BackendError`."""
        if self._better is not None:
            self._old, self._serving, self._better = self._serving, self._better, None
            self.name = self._serving.name
            self.notes.append(f"{self._frames} images by {self._old.name}, then by {self.name}")
            self._turned.set()
        self._frames += 1
        return self._serving.infer(image)

    def close(self) -> None:
        """Stop the preparation and close both backends."""
        self._closing = True
        self._preparation.stop()
        self._turned.set()
        if self._thread.ident is not None:
            self._thread.join()
        for backend in (self._serving, self._better):
            if backend is not None:
                backend.close()

    def __enter__(self) -> Handover:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        """The thread's body."""
        try:
            self._better = self._preparation.run(self._show_progress)
        except MedtexError as error:
            self._give_up(_with_hint(error))
        except Exception as error:  # a fault in what would be faster must not end a run that works
            self._give_up(f"{type(error).__name__}: {error}")
        self.progress = ""
        if self._better is not None:
            # Reported and closed in this thread, so that no frame waits for it.
            self._turned.wait()
        if self._old is not None:
            self._old.close()
            self._on_message(self.notes[-1])

    def _show_progress(self, step: str, done: float) -> None:
        self.progress = f"{done:.0%}: {step}"

    def _give_up(self, why: str) -> None:
        if not self._closing:
            self.notes.append(f"{why}; the run goes on with {self.name}")
            self._on_message(self.notes[-1])


class EngineBuild:
    """Builds the engine of one graph in a process of its own, and opens it."""

    def __init__(self, bundle: Bundle, key: EngineKey, cache: Cache) -> None:
        self._bundle, self._key, self._cache = bundle, key, cache
        self._on_progress: OnProgress = lambda step, done: None
        self._process = BuildProcess(
            command(bundle.path, key.precision), lambda step, done: self._on_progress(step, done)
        )

    def run(self, on_progress: OnProgress) -> Backend | None:
        """See `Preparation`."""
        self._on_progress = on_progress
        try:
            if not self._process.run():
                return None
        finally:
            with suppress(StorageError):
                self._cache.sweep()
        on_progress("proving", 1.0)
        return open_cached(self._bundle, self._key, self._cache)

    def stop(self) -> None:
        """See `Preparation`."""
        self._process.stop()


class NoEngine(BackendError):
    """No engine of that graph is on this device yet."""


def open(
    bundle: Bundle, name: str, *, precision: str | None = None, threads: int | None = None, require: bool = False,
    on_message: OnMessage = lambda line: None,
) -> Backend:  # fmt: skip
    """Open the backend `name` for a run: a name of `open_backend`, or "auto" for TensorRT where the device has it.

    `precision` None means fp16 for TensorRT where the bundle has it, else fp32. Where the device has no engine of the
    graph yet, the result is a `Handover`, whose `begin` builds it. With `require`, TensorRT serves from the first
    frame on or `BackendError` is raised. `on_message` receives the reason where another backend than TensorRT serves.
    Raises what `open_backend` raises.
    """
    key = _key(bundle, name, precision, require, on_message)
    if key is None:
        if name == "auto":
            return onnxruntime.open_best(bundle, precision=precision or "fp32", threads=threads)
        return open_backend(name, bundle, precision=precision or "fp32", threads=threads)
    cache = Cache(on_message=on_message)
    better: Preparation | None = EngineBuild(bundle, key, cache)
    try:
        return open_cached(bundle, key, cache)
    except MedtexError as error:
        if require or not isinstance(error, BackendError | BundleError):
            raise
        if isinstance(error, BundleError):  # it was refused, now or earlier: a new one would be the same
            better = None
        if not isinstance(error, NoEngine):
            on_message(f"{_with_hint(error)}; ONNX Runtime serves")
    first = onnxruntime.open_best(bundle, precision=precision or "fp32", threads=threads)
    return first if better is None else Handover(first, better, on_message)


def open_cached(bundle: Bundle, key: EngineKey, cache: Cache) -> Backend:
    """Open the engine of `key` and prove it.

    Raises `NoEngine` where there is none, `BackendError` where it does not load (it is removed), `BundleError` where
    its answers are not the bundle's, now or earlier (it is put aside).
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


def _key(bundle: Bundle, name: str, precision: str | None, require: bool, on_message: OnMessage) -> EngineKey | None:
    """The key of the engine to serve with, or None for ONNX Runtime."""
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
        on_message(f"{_with_hint(error)}; ONNX Runtime serves")
        return None


def _with_hint(error: MedtexError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
