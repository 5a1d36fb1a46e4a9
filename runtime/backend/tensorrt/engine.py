"""One TensorRT engine with its stream, its buffers and its captured graph: everything that has to be released."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import INPUT_NAME, OUTPUT_NAMES, Contract
from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend.tensorrt import cuda, cuda_graph

BUILD_AGAIN = "build it again on this device: medtex-edge engine build"
_PATIENCE_S = 10.0  # for an inference that is under way while the engine is closed
_LOG_LINES = 3  # of TensorRT's errors, in a message of ours


class Engine:
    """An engine that runs one image at a time. `image` (1, H, W, 3) uint8 is the memory of its input.

    Every method makes the context current; `run` and `close` may be called from any thread.
    """

    def __init__(self, context: cuda.Context, trt: ModuleType, name: str) -> None:
        self.image: npt.NDArray[np.uint8] | None = None  # None before `open` and after `close`
        self.not_captured = "not requested"
        self._lock = threading.Lock()
        self._context = context
        self._trt = trt
        self._name = name
        self._log = _logger(trt)
        # Referenced by these attributes and never by a local variable, which a traceback would keep beyond `close`.
        self._runtime: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._profiler: Any = None
        self._stream: cuda.Stream | None = None
        self._timer: cuda.Timer | None = None
        self._graph: cuda_graph.Graph | None = None
        self._buffers: dict[str, cuda.Buffer] = {}

    def open(self, plan: bytes, contract: Contract) -> None:
        """Read the plan, check it against `contract`, and bind a buffer to each tensor. Raises `BackendError`."""
        with cuda.errors(f"{self._name}: opening the engine"), self._context:
            with suppress(RuntimeError, TypeError):  # what its binding makes of a null pointer
                self._runtime = self._trt.Runtime(self._log)
            self._expect(self._runtime is not None, "TensorRT does not start")
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            self._expect(self._engine is not None, "the engine cannot be read", hint=BUILD_AGAIN)
            expected = _expected(self._trt, contract)
            _check(_tensors(self._engine), expected, self._name)
            self._execution = self._engine.create_execution_context()
            self._expect(self._execution is not None, "the engine cannot be prepared to run")
            self._stream, self._timer = cuda.Stream(), cuda.Timer()
            self._bind({name: tensor.shape for name, tensor in expected.items()})

    def run(self, image: npt.NDArray[np.uint8], *answers: npt.NDArray[np.float32]) -> float:
        """(H, W, 3) uint8 -> the outputs into `answers`, in the order of `OUTPUT_NAMES`; milliseconds on the GPU.

        The milliseconds hold the copies to and from a discrete GPU. Raises `BackendError`.
        """
        with self._lock:
            own, timer, stream = self.image, self._timer, self._stream
            if own is None or timer is None or stream is None:
                raise BackendError(f"{self._name}: closed, cannot infer any more")
            if image.ctypes.data != own.ctypes.data or image.strides != own[0].strides:
                np.copyto(own[0], image)
            outputs = [self._buffers[name].host for name in OUTPUT_NAMES]
            for output in outputs:
                output.fill(np.nan)  # so that the answer before this one can never pass for it
            with cuda.errors(f"{self._name}: inference failed"), self._context:
                timer.start(stream)
                if self._graph is None:
                    self._enqueue()
                else:
                    self._graph.launch()
                timer.stop(stream)
                gpu_ms = timer.wait()
            for output, answer in zip(outputs, answers, strict=True):
                np.copyto(answer, output[0])
        return gpu_ms

    def capture(self) -> None:
        """Replay from now on. A refusal is kept in `not_captured`; images are then queued call by call, as before."""
        with self._lock:
            assert self._stream is not None
            try:
                with cuda.errors(f"{self._name}: capturing"), self._context:
                    self._graph = cuda_graph.capture(self._stream, self._enqueue)
            except BackendError as error:
                self.not_captured = error.message
            else:
                self.not_captured = ""

    def watch(self, on_layer: Callable[[str, float], None]) -> None:
        """From now on, `run` calls `on_layer` with the name and the milliseconds on the GPU of each layer of an image.

        For an engine that is neither captured nor hurried. Raises `BackendError`.
        """
        with self._lock, cuda.errors(f"{self._name}: watching the engine"), self._context:
            self._profiler = _profiler(self._trt, on_layer)
            self._execution.profiler = self._profiler

    def inspect(self) -> str:
        """The engine's own description of its layers, JSON. Raises `BackendError`."""
        with self._lock, cuda.errors(f"{self._name}: inspecting the engine"), self._context:
            wanted = self._trt.LayerInformationFormat.JSON
            # In one expression: a name would keep the inspector beyond the context.
            return str(self._engine.create_engine_inspector().get_engine_information(wanted))

    def close(self) -> None:
        """Give everything back, after the image that is under way. May be called twice."""
        self.image = None
        # In vain only where the GPU hangs or is lost: then the end of the process takes everything back.
        if not self._lock.acquire(timeout=_PATIENCE_S):
            cuda.keep(self)
            return
        try:
            with cuda.errors("closing"), self._context:
                self._give_back()
        except BackendError:
            cuda.keep(self)
        finally:
            self._lock.release()

    def _give_back(self) -> None:
        # Work first, then the graph before what it replays, and each of TensorRT's objects before its maker.
        if self._stream is not None:
            _try(self._stream.synchronize)
        if self._graph is not None:
            _try(self._graph.close)
        self._graph = None
        self._execution = None
        self._profiler = None
        self._engine = None
        self._runtime = None
        for part in (*self._buffers.values(), self._timer, self._stream):
            if part is not None:
                _try(part.close)
        self._buffers, self._timer, self._stream = {}, None, None

    def _bind(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            dtype = np.uint8 if name == INPUT_NAME else np.float32
            self._buffers[name] = cuda.Buffer(shape, dtype, mapped=self._context.device.integrated)
            bound = self._execution.set_tensor_address(name, self._buffers[name].pointer)
            self._expect(bound, f"{name}: its memory is refused")
        shape = shapes[INPUT_NAME]
        self._expect(self._execution.set_input_shape(INPUT_NAME, shape), f"{INPUT_NAME}: {shape} is refused")
        for name in OUTPUT_NAMES:
            actual = tuple(self._execution.get_tensor_shape(name))
            if actual != shapes[name]:
                raise BackendError(f"{self._name}: {name}: expected {shapes[name]}, got {actual}", hint=BUILD_AGAIN)
        self.image = self._buffers[INPUT_NAME].host

    def _enqueue(self) -> None:
        assert self._stream is not None
        self._log.lines.clear()
        self._buffers[INPUT_NAME].upload(self._stream)
        self._expect(self._execution.execute_async_v3(self._stream.handle), "inference failed")
        for name in OUTPUT_NAMES:
            self._buffers[name].download(self._stream)

    def _expect(self, accepted: object, refusal: str, hint: str = "") -> None:
        """TensorRT refuses by False or None, and writes the reason into its log."""
        if not accepted:
            reason = "; ".join(self._log.lines) or "TensorRT gives no reason"
            raise cuda.failure(reason, f"{self._name}: {refusal}", hint)


class _Tensor(NamedTuple):
    mode: Any  # these three of TensorRT's enumerations
    dtype: Any
    location: Any
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.mode.name} {self.dtype.name} {self.shape} on {self.location.name}"


def _expected(trt: ModuleType, c: Contract) -> dict[str, _Tensor]:
    """Name -> tensor, for a batch of one."""
    out, number, gpu = trt.TensorIOMode.OUTPUT, trt.DataType.FLOAT, trt.TensorLocation.DEVICE
    return {
        INPUT_NAME: _Tensor(trt.TensorIOMode.INPUT, trt.DataType.UINT8, gpu, (1, c.height, c.width, 3)),
        "probabilities": _Tensor(out, number, gpu, (1, len(c.classes))),
        "saliency": _Tensor(out, number, gpu, (1, c.saliency_height, c.saliency_width)),
    }


def _tensors(engine: Any) -> dict[str, _Tensor]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: _Tensor(
            engine.get_tensor_mode(name), engine.get_tensor_dtype(name), engine.get_tensor_location(name),
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    }  # fmt: skip


def _check(tensors: dict[str, _Tensor], expected: dict[str, _Tensor], where: str) -> None:
    """Raise `BackendError` unless the engine's tensors are as expected; its batch may be left open."""
    if set(tensors) != set(expected):
        raise BackendError(
            f"{where}: expected the engine's tensors to be {', '.join(expected)}, got {', '.join(tensors) or 'none'}",
            hint=BUILD_AGAIN,
        )
    for name, wanted in expected.items():
        actual = tensors[name]
        if actual not in (wanted, wanted._replace(shape=(-1, *wanted.shape[1:]))):
            raise BackendError(
                f"{where}: {name}: expected {wanted} by the contract, the engine has {actual}", hint=BUILD_AGAIN
            )


def _logger(trt: ModuleType) -> Any:
    """A log that prints nothing and keeps the last errors in `lines`."""

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_LOG_LINES)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                self.lines.append(message.strip())

    return Log()


def _profiler(trt: ModuleType, on_layer: Callable[[str, float], None]) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            on_layer(layer_name, ms)

    return Profiler()


def _try(step: Callable[[], None]) -> None:
    """Run a step of closing. An error of the driver is ignored: the next step still has to be done."""
    with suppress(BackendError), cuda.errors("closing"):
        step()
