"""The GPU: context, stream, buffers and clock, over pycuda. The one module that imports it, and only when called.

The primary context is used, which TensorRT, ONNX Runtime and PyTorch share. It is retained once and kept until the
process ends, as CUDA's own runtime does: memory that is still referenced stays valid. Everything here but `device`,
`context` and `errors` wants it current in the calling thread, `with context():`; it may be so in several threads.
`pycuda.autoprimaryctx` is not imported, because it pushes the context in the thread that happens to import it and pops
it in the one that ends the process.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

import numpy.typing as npt

from medtex_edge.errors import BackendError

LIBRARY = "libcuda.so.1"  # the driver's own; pycuda and TensorRT are linked against it
ELSEWHERE = "--backend onnxruntime does without a GPU"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: neither waits for the default stream nor makes it wait
# Messages of the driver for a context that is lost: every later call fails too, until the process ends.
_LOST = (
    "illegal memory access", "unspecified launch failure", "launch timed out", "misaligned address", "uncorrectable",
    "hardware stack error", "illegal instruction", "context is destroyed", "busy or unavailable", "device-side assert",
    "driver shutting down", "unknown error",
)  # fmt: skip


@dataclass(frozen=True)
class CudaDevice:
    """The GPU that CUDA names first; CUDA_VISIBLE_DEVICES chooses another."""

    name: str
    capability: str  # "8.7"
    driver: str  # the version of CUDA that the driver speaks, "12.6"
    integrated: bool  # shares its memory with the processor, as on a Jetson


def device() -> CudaDevice:
    """Which GPU there is. Raises `BackendError` where there is none, or pycuda is missing."""
    driver = _pycuda()
    with errors("looking for a GPU"):
        driver.init()
        return _describe(driver)


class Context:
    """The primary context. `with` makes it current in this thread, and what was current before afterwards."""

    def __init__(self) -> None:
        driver = _pycuda()
        with errors("opening the GPU"):
            driver.init()
            self.device = _describe(driver)
            self._primary = driver.Device(0).retain_primary_context()
        keep(self._primary)  # whose destructor would call for a primary context what is made for others only

    def __enter__(self) -> Context:
        self._primary.push()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._primary.pop()


_context: Context | None = None
_opening = threading.Lock()


def context() -> Context:
    """The process' one `Context`, opened by the first call. Raises `BackendError`."""
    global _context
    with _opening:
        _context = _context or Context()
        return _context


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """Turn what pycuda raises in the block into a `BackendError` that names `doing` and what to do next."""
    try:
        yield
    except _pycuda().Error as error:
        raise failure(str(error), doing) from error


def failure(message: str, doing: str, otherwise: str = "") -> BackendError:
    """The error for a message of the driver or TensorRT. `otherwise`: the hint for messages that are not known here."""
    text = message.lower()
    if "out of memory" in text or "outofmemory" in text:
        hint = "end other programs that use the GPU (on a Jetson: that use memory), or use a smaller --precision"
    elif any(phrase in text for phrase in _LOST):
        hint = "the GPU is lost to this process: start it again; if that recurs check `dmesg`, heat and power supply"
    elif "no cuda-capable device" in text:
        hint = f"this process sees no GPU (is CUDA_VISIBLE_DEVICES set?); {ELSEWHERE}"
    elif "driver version is insufficient" in text:
        hint = f"install a newer NVIDIA driver, or JetPack; {ELSEWHERE}"
    else:
        hint = otherwise or f"`medtex-edge doctor` lists what this machine has; {ELSEWHERE}"
    return BackendError(f"{doing}: {message.strip()[:300]}", hint=hint)


class Stream:
    """One queue of work for the GPU, apart from the default one, on which a capture would see others' calls."""

    def __init__(self) -> None:
        self._stream: Any = _pycuda().Stream(_NON_BLOCKING)
        self.handle: int = self._stream.handle

    @property
    def native(self) -> Any:
        """pycuda's object. Not to be kept: where it is let go of, the context has to be current."""
        return self._stream

    def synchronize(self) -> None:
        """Wait until everything in the queue is done; other threads of Python run meanwhile."""
        self._stream.synchronize()

    def close(self) -> None:
        """Destroy the stream; work that is in it is still finished."""
        self._stream = None


class Buffer:
    """An array that processor and GPU both work on. `host` is page-locked, `pointer` what kernels are given.

    `mapped`: both are the same memory, and `upload` and `download` do nothing, which suits an integrated GPU. Else the
    GPU has its own copy, and these are asynchronous copies. `host` may outlive the buffer.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool) -> None:
        driver = _pycuda()
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: npt.NDArray[Any] = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
        # Views hold `host`, not the allocation, which goes with the last of them, in whichever thread.
        # Not at exit, since a thread may still be writing; the process' end takes it back.
        base: Any = self.host.base  # the allocation
        keep(base)
        weakref.finalize(self.host, _free_host, base).atexit = False
        self.host.fill(0)
        self._own: Any = None if mapped else driver.mem_alloc(self.host.nbytes)
        pointer: Any = base.get_device_pointer() if mapped else self._own
        self.pointer = int(pointer)

    def upload(self, stream: Stream) -> None:
        """Queue the copy from `host` to the GPU."""
        if self._own is not None:
            _pycuda().memcpy_htod_async(self.pointer, self.host, stream.native)

    def download(self, stream: Stream) -> None:
        """Queue the copy from the GPU to `host`."""
        if self._own is not None:
            _pycuda().memcpy_dtoh_async(self.host, self.pointer, stream.native)

    def close(self) -> None:
        """Free the GPU's copy; `host` is freed with the last reference to it."""
        own, self._own = self._own, None
        if own is not None:
            own.free()


class Timer:
    """The GPU's own clock, between two places in a stream. Waiting for the second lets the processor sleep."""

    def __init__(self) -> None:
        driver = _pycuda()
        # The second sleeps: a waiting thread would else spin on a core that capture and drawing need. Both or none,
        # since a failure's traceback would keep a half-made timer beyond the context.
        self._began, self._ended = driver.Event(), driver.Event(driver.event_flags.BLOCKING_SYNC)

    def start(self, stream: Stream) -> None:
        """Record the first event."""
        self._began.record(stream.native)

    def stop(self, stream: Stream) -> None:
        """Record the second event."""
        self._ended.record(stream.native)

    def wait(self) -> float:
        """Milliseconds from beginning to end, after waiting for it. Raises what the work in between raised."""
        self._ended.synchronize()
        return float(self._ended.time_since(self._began))

    def close(self) -> None:
        """Destroy both events."""
        self._began = self._ended = None


def keep(thing: object) -> None:
    """Never destroy `thing`, nor what it holds.

    pycuda's destructors warn, leak, or end the process where the context is not current and cannot be made so.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _free_host(allocation: Any) -> None:
    # A context that is lost cannot be made current, and has freed everything already.
    with suppress(BackendError), errors("freeing memory"), context():
        allocation.free()
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(allocation))


def _describe(driver: ModuleType) -> CudaDevice:
    first, version = driver.Device(0), driver.get_driver_version()
    capability = "{}.{}".format(*first.compute_capability())
    integrated = bool(first.get_attribute(driver.device_attribute.INTEGRATED))
    return CudaDevice(first.name(), capability, f"{version // 1000}.{version % 1000 // 10}", integrated)


def _pycuda() -> ModuleType:
    try:
        import pycuda.driver
    except ImportError as error:
        try:
            ctypes.CDLL(LIBRARY)
        except OSError:
            hint = f"no NVIDIA driver ({LIBRARY}) here; {ELSEWHERE}"
        else:
            hint = f"pip install 'medtex-edge[tensorrt]' (it compiles, and needs the CUDA toolkit); {ELSEWHERE}"
        raise BackendError(f"pycuda is missing or broken: {error}", hint=hint) from error
    return pycuda.driver  # type: ignore[no-any-return]
