"""A GPU of plain Python behind the names of pycuda and of the CUDA driver that the runtime uses, and no others.

It is lazy, as a real one: what is queued on a stream happens when it is waited for. It is strict: whatever CUDA
would answer with a crash, a leak or silence is written into `Gpu.faults`. Any call can be made to fail.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cuda_graphs import Library

Work = Callable[[], None]
NON_BLOCKING = 1
DEVICEMAP = 2
FREED = 0xDD  # what freed memory holds
OUT_OF_MEMORY = "out of memory"  # any other failure is for good
# Calls that never raise: pycuda reports what goes wrong there on stderr instead of raising, or it cannot fail.
NEVER_FAIL = {"free", "pop", "destroy"}


class Gpu:
    """What the driver knows. `fail_at` is the number of the call that fails, `lost` makes all later ones fail too."""

    def __init__(self, *, integrated: bool = False, graphs: bool = True) -> None:
        self.integrated = integrated
        self.faults: list[str] = []
        self.calls: list[str] = []
        self.fail_at = -1
        self.fails_with = OUT_OF_MEMORY
        self.lost = False
        self.launches = 0
        self.clock_ms = 0.0
        self.live: dict[int, Any] = {}  # handle -> what it stands for
        self.memory: dict[int, np.ndarray] = {}  # address on the device -> bytes
        self.freed: list[np.ndarray] = []
        self.library = Library(self) if graphs else SimpleNamespace()
        self.driver = _driver(self)
        self._handles = itertools.count(0x1000, 0x1000)
        self._stacks = threading.local()

    @property
    def stack(self) -> list[Any]:
        """The calling thread's contexts."""
        if not hasattr(self._stacks, "contexts"):
            self._stacks.contexts = []
        return self._stacks.contexts

    def call(self, name: str, *, context: bool = True) -> str:
        """Count a call; what it fails with, or ''."""
        if context and not self.stack:
            self.faults.append(f"{name} without a current context")
        if name in NEVER_FAIL:
            return ""
        self.calls.append(name)
        if len(self.calls) - 1 == self.fail_at:
            self.lost = self.fails_with != OUT_OF_MEMORY
            return self.fails_with if self.lost or name != "push" else ""
        return self.fails_with if self.lost else ""

    def guarded(self, name: str, *, context: bool = True) -> None:
        """The same, raised as pycuda does."""
        error = self.call(name, context=context)
        if error:
            kind = self.driver.MemoryError if error == OUT_OF_MEMORY else self.driver.LogicError
            raise kind(f"{name} failed: {error}")

    def make(self, thing: Any) -> int:
        """A new handle."""
        handle = next(self._handles)
        self.live[handle] = thing
        return handle

    def destroy(self, handle: int, kind: str) -> None:
        """Forget a handle."""
        self.call("destroy")
        if self.live.pop(handle, None) is None:
            self.faults.append(f"a {kind} was destroyed twice")

    def bytes_at(self, pointer: int, size: int) -> np.ndarray:
        """Memory as a kernel sees it."""
        found = self.memory.get(pointer)
        if found is None or len(found) < size:
            self.faults.append(f"the GPU touched {size} bytes that it does not own")
            return np.zeros(size, np.uint8)
        return found[:size]

    def check(self) -> None:
        """Nothing was done that a real one would not forgive, and nothing is left."""
        for block in self.freed:
            if (block != FREED).any():
                self.faults.append("freed memory was written to")
        assert not self.faults
        assert not self.stack
        assert [kind for kind in self.live.values() if kind != "context"] == []
        assert not self.memory

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Gpu:
        """Be what `import pycuda.driver` and the driver's library give, and forget the context that was open."""
        package = ModuleType("pycuda")
        package.driver = self.driver  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", self.driver)
        monkeypatch.setattr("medtex_edge.runtime.backend.tensorrt.cuda._context", None)
        real = ctypes.CDLL
        monkeypatch.setattr(ctypes, "CDLL", lambda name, *a: self.library if name == "libcuda.so.1" else real(name, *a))
        return self


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    """As compiled code: a traceback through it holds none of its arguments."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            del arguments, options
            raise error.with_traceback(None) from None

    return call


class Queue:
    """What a stream's handle stands for."""

    def __init__(self) -> None:
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None
        self.spoiled = False  # by a call that cannot be captured

    def add(self, work: Work) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)

    def finish(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class _Held:
    """Anything of pycuda whose destructor wants its context."""

    def __init__(self, gpu: Gpu, thing: Any) -> None:
        self.gpu, self.handle = gpu, gpu.make(thing)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self.gpu.destroy(self.handle, type(self).__name__)


class Stream(_Held):
    def __init__(self, gpu: Gpu, flags: int = 0) -> None:
        gpu.guarded("cuStreamCreate")
        assert flags == NON_BLOCKING
        super().__init__(gpu, Queue())
        self.queue: Queue = gpu.live[self.handle]

    @native
    def synchronize(self) -> None:
        self.gpu.guarded("cuStreamSynchronize")
        if self.queue.captured is not None:
            self.queue.spoiled = True
        self.queue.finish()


class Event(_Held):
    def __init__(self, gpu: Gpu, flags: int = 0) -> None:
        gpu.guarded("cuEventCreate")
        super().__init__(gpu, "event")
        self.time: float | None = None
        self.queue: Queue | None = None

    @native
    def record(self, stream: Stream) -> None:
        self.gpu.guarded("cuEventRecord")
        self.time, self.queue = None, stream.queue
        self.queue.add(lambda: setattr(self, "time", self.gpu.clock_ms))

    @native
    def synchronize(self) -> None:
        self.gpu.guarded("cuEventSynchronize")
        if self.queue is not None:
            self.queue.finish()

    @native
    def time_since(self, start: Event) -> float:
        self.gpu.guarded("cuEventElapsedTime")
        if self.time is None or start.time is None:
            raise self.gpu.driver.LogicError("cuEventElapsedTime failed: not ready")
        return self.time - start.time


class Allocation:
    """Memory of the device. It has to be freed by `free`: a destructor may run in any thread, at any time."""

    call, kind = "cuMemAlloc", "device memory"

    def __init__(self, gpu: Gpu, size: int) -> None:
        gpu.guarded(self.call)
        self.gpu = gpu
        self.block = np.full(size, 0xAA, np.uint8)
        self.address = gpu.make(self.kind)
        self.freed = False
        if type(self) is Allocation:
            gpu.memory[self.address] = self.block

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        assert not self.freed
        self.freed = True
        self.gpu.call("free")
        if any(isinstance(thing, Queue) and thing.waiting for thing in self.gpu.live.values()):
            self.gpu.faults.append("memory was freed while work was queued")
        del self.gpu.live[self.address]
        self.gpu.memory.pop(self.address, None)
        self.block[:] = FREED
        self.gpu.freed.append(self.block)

    def __del__(self) -> None:
        if not getattr(self, "freed", True):
            self.gpu.faults.append(f"{self.kind} was left to its destructor")


class HostAllocation(Allocation):
    """Page-locked memory of the host, seen by the device too where it was mapped."""

    call, kind = "cuMemHostAlloc", "host memory"

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any, *, mapped: bool) -> None:
        kind = np.dtype(dtype)
        super().__init__(gpu, int(np.prod(shape)) * kind.itemsize)
        self.mapped = mapped
        self.__array_interface__ = {**self.block.__array_interface__, "shape": shape, "typestr": kind.str}
        del self.__array_interface__["descr"], self.__array_interface__["strides"]

    @native
    def get_device_pointer(self) -> int:
        self.gpu.guarded("cuMemHostGetDevicePointer")
        assert self.mapped
        self.gpu.memory[self.address] = self.block
        return self.address


class Context:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        gpu.make("context")

    def __del__(self) -> None:
        self.gpu.faults.append("the context was left to its destructor")

    @native
    def push(self) -> None:
        self.gpu.guarded("push", context=False)
        self.gpu.stack.append(self)

    def pop(self) -> None:
        self.gpu.call("pop")
        self.gpu.stack.pop()


class Device:
    def __init__(self, gpu: Gpu, index: int) -> None:
        gpu.guarded("cuDeviceGet", context=False)
        assert index == 0
        self.gpu = gpu

    def name(self) -> str:
        return "Orin"

    def compute_capability(self) -> tuple[int, int]:
        return (8, 7)

    def get_attribute(self, attribute: str) -> int:
        return {"integrated": int(self.gpu.integrated)}[attribute]

    @native
    def retain_primary_context(self) -> Context:
        self.gpu.guarded("cuDevicePrimaryCtxRetain", context=False)
        return Context(self.gpu)


def _driver(gpu: Gpu) -> Any:
    """The module `pycuda.driver`."""
    made = ModuleType("pycuda.driver")
    error = type("Error", (Exception,), {})
    for name in ("LogicError", "MemoryError", "LaunchError", "RuntimeError"):
        setattr(made, name, type(name, (error,), {}))
    made.Error = error  # type: ignore[attr-defined]

    @native
    def pagelocked_empty(shape: tuple[int, ...], dtype: Any, *, mem_flags: int = 0) -> np.ndarray:
        allocation = HostAllocation(gpu, shape, dtype, mapped=mem_flags == DEVICEMAP)
        return np.asarray(allocation)  # whose `base` is the allocation, as with pycuda

    def copy(name: str, to: Callable[[], np.ndarray], of: Callable[[], np.ndarray], stream: Stream) -> None:
        gpu.guarded(name)
        stream.queue.add(lambda: np.copyto(to(), of()))

    @native
    def memcpy_htod_async(pointer: int, host: np.ndarray, stream: Stream) -> None:
        at = host.reshape(-1).view(np.uint8)
        copy("cuMemcpyHtoDAsync", lambda: gpu.bytes_at(pointer, at.size), lambda: at, stream)

    @native
    def memcpy_dtoh_async(host: np.ndarray, pointer: int, stream: Stream) -> None:
        at = host.reshape(-1).view(np.uint8)
        copy("cuMemcpyDtoHAsync", lambda: at, lambda: gpu.bytes_at(pointer, at.size), stream)

    vars(made).update(
        init=lambda: gpu.guarded("cuInit", context=False), get_driver_version=lambda: 12060,
        Device=functools.partial(Device, gpu), device_attribute=SimpleNamespace(INTEGRATED="integrated"),
        Stream=native(lambda flags=0: Stream(gpu, flags)), Event=native(lambda flags=0: Event(gpu, flags)),
        event_flags=SimpleNamespace(BLOCKING_SYNC=1), host_alloc_flags=SimpleNamespace(DEVICEMAP=DEVICEMAP),
        pagelocked_empty=pagelocked_empty, mem_alloc=native(lambda size: Allocation(gpu, size)),
        memcpy_htod_async=memcpy_htod_async, memcpy_dtoh_async=memcpy_dtoh_async,
    )  # fmt: skip
    return made
