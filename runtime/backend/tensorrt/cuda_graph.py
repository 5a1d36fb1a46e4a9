"""CUDA graphs: work that is queued once, and then launched again and again by one call.

pycuda has none, so this goes to the driver's own entry points (CUDA Driver API, "Graph Management" and "Stream
Management"; the names are those that CUDA 11.4 to 13 export).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend.tensorrt import cuda

# Other threads (ONNX Runtime, while an engine takes over from it) may go on allocating while this one captures.
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_ENTRY_POINTS: dict[str, tuple[type[ctypes._CData] | type, ...]] = {
    "cuStreamBeginCapture_v2": (ctypes.c_void_p, ctypes.c_int),
    "cuStreamEndCapture": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphInstantiateWithFlags": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong),
    "cuGraphDestroy": (ctypes.c_void_p,),
    "cuGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphExecDestroy": (ctypes.c_void_p,),
    "cuGetErrorString": (ctypes.c_int, ctypes.c_void_p),
}


class Graph:
    """Captured work. What it reads and writes has to stay where it was; the context has to be current throughout."""

    def __init__(self, driver: _Driver, executable: int, stream: cuda.Stream) -> None:
        self._driver = driver
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """Queue all of it on its stream. Raises `BackendError`."""
        self._driver.call("cuGraphLaunch", self._executable, self._stream.handle)

    def close(self) -> None:
        """Destroy it. May be called twice. Raises `BackendError`."""
        executable, self._executable = self._executable, 0
        if executable:
            self._driver.call("cuGraphExecDestroy", executable)


def capture(stream: cuda.Stream, work: Callable[[], None]) -> Graph:
    """Record the calls that `work` queues on `stream`, instead of running them.

    Raises `BackendError` where the driver, or the work, refuses; the stream can then be used as before.
    """
    driver = _Driver()
    driver.call("cuStreamBeginCapture_v2", stream.handle, _THREAD_LOCAL)
    graph = ctypes.c_void_p()
    try:
        with cuda.errors("capturing"):
            work()
    except BaseException:
        # Called whatever happened: until then the stream takes nothing but what is to be recorded.
        driver.try_call("cuStreamEndCapture", stream.handle, ctypes.byref(graph))
        driver.try_call("cuGraphDestroy", graph.value)
        raise
    driver.call("cuStreamEndCapture", stream.handle, ctypes.byref(graph))
    executable = ctypes.c_void_p()
    try:
        driver.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph.value, 0)
    finally:
        driver.try_call("cuGraphDestroy", graph.value)
    return Graph(driver, executable.value or 0, stream)


class _Driver:
    """The entry points, by name. Raises `BackendError` where the driver lacks one."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(cuda.LIBRARY)
            self._functions = {name: getattr(library, name) for name in _ENTRY_POINTS}
        except (OSError, AttributeError) as error:
            raise BackendError(f"CUDA graphs: this driver has none: {error}") from error
        for name, types in _ENTRY_POINTS.items():
            self._functions[name].argtypes = types
            self._functions[name].restype = ctypes.c_int

    def call(self, name: str, *arguments: object) -> None:
        """Raises `BackendError` unless the driver answers with success."""
        code = self._functions[name](*arguments)
        if code:
            text = ctypes.c_char_p()
            self._functions["cuGetErrorString"](code, ctypes.byref(text))
            raise cuda.failure((text.value or b"unknown error").decode(), f"{name} failed with {code}")

    def try_call(self, name: str, handle: object, *rest: object) -> None:
        """The same where nothing can be done about a refusal, and nothing is to be done without a handle."""
        if handle:
            self._functions[name](handle, *rest)
