"""The functions of the CUDA driver that `fake_cuda` captures and launches graphs with."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_cuda import Gpu, Queue, Work

THREAD_LOCAL = 1


class Library:
    """libcuda.so.1, for what is called through ctypes. A function answers with a code, and takes plain handles."""

    INVALID_HANDLE, CAPTURE_INVALIDATED, FAILED = 400, 901, 719

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.error = b"unknown error"
        for name in (
            "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphDestroy",
            "cuGraphLaunch", "cuGraphExecDestroy", "cuGetErrorString",
        ):  # fmt: skip
            # Functions, so that ctypes' `argtypes` can be set on them.
            setattr(self, name, functools.wraps(getattr(self, f"_{name}"))(functools.partial(self._checked, name)))

    def _checked(self, name: str, *arguments: Any) -> int:
        types = vars(self)[name].argtypes
        assert len(types) == len(arguments), name
        assert all(isinstance(a, int) or hasattr(a, "_obj") for a in arguments), name
        if name == "cuGetErrorString":
            arguments[1]._obj.value = self.error
            return 0
        error = self.gpu.call("destroy" if "Destroy" in name else name)
        if error and name == "cuStreamEndCapture":
            self._cuStreamEndCapture(arguments[0], None)  # a capture that fails is over all the same
        code: int = self.FAILED if error else getattr(self, f"_{name}")(*arguments)
        self.error = (error or "invalid resource handle").encode()
        return code

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:
        queue: Queue = self.gpu.live[stream]
        assert mode == THREAD_LOCAL
        assert queue.captured is None
        queue.captured, queue.spoiled = [], False
        return 0

    def _cuStreamEndCapture(self, stream: int, graph: Any) -> int:
        queue: Queue = self.gpu.live[stream]
        captured, queue.captured = queue.captured, None
        assert captured is not None
        if graph is None:  # the call itself was made to fail
            return self.FAILED
        if queue.spoiled:
            return self.CAPTURE_INVALIDATED
        graph._obj.value = self.gpu.make(CapturedGraph(captured))
        return 0

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: int, flags: int) -> int:
        assert flags == 0
        executable._obj.value = self.gpu.make(Executable(self.gpu.live[graph].work))
        return 0

    def _cuGraphLaunch(self, executable: int, stream: int) -> int:
        if executable not in self.gpu.live:
            return self.INVALID_HANDLE
        self.gpu.launches += 1
        self.gpu.live[stream].waiting.extend(self.gpu.live[executable].work)
        return 0

    def _cuGraphDestroy(self, graph: int) -> int:
        return 0 if self.gpu.live.pop(graph, None) else self.INVALID_HANDLE

    _cuGraphExecDestroy = _cuGraphDestroy
    _cuGetErrorString = _cuGraphDestroy


class CapturedGraph:
    def __init__(self, work: list[Work]) -> None:
        self.work = list(work)


class Executable(CapturedGraph):
    """What was instantiated; it lives on without the graph that it was made of."""
