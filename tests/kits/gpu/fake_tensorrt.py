"""TensorRT of plain Python on `fake_cuda.Gpu`: the names that 10.3 to 11 share and the backend uses, and no others.

A plan is JSON. The network it stands for answers with the result of `answer`.
"""

from __future__ import annotations

import enum
import json
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from fake_cuda import Gpu, Queue, native

SIZE, GRID, CLASSES = 64, 16, 3
RUN_MS = 0.5
TENSORS = {
    "image": ["INPUT", "UINT8", [1, SIZE, SIZE, 3]],
    "probabilities": ["OUTPUT", "FLOAT", [1, CLASSES]],
    "saliency": ["OUTPUT", "FLOAT", [1, GRID, GRID]],
}


def plan(**changes: Any) -> bytes:
    """An engine; `tensors` replaces single ones, `capturable` False refuses to be captured, `runs` False to run.

    `layers`: name -> milliseconds, what a profiler receives; `inspected`: the description by the inspector, JSON.
    """
    tensors = {**TENSORS, **changes.pop("tensors", {})}
    return json.dumps({"tensors": {k: v for k, v in tensors.items() if v}, **changes}).encode()


def answer(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(H, W, 3) uint8 -> (C,) and (h, w): the more red the surer of the last class; saliency is red itself."""
    red = image[..., 0].reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean(axis=(1, 3)) / 255
    sick = red.mean()
    return np.array([1 - sick, 0, sick], np.float32), red.astype(np.float32)


class DataType(enum.Enum):
    UINT8, FLOAT, HALF = range(3)


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = range(2)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class LayerInformationFormat(enum.Enum):
    ONELINE, JSON = range(2)


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    ERROR = Severity.ERROR
    WARNING = Severity.WARNING


class _Part:
    """An object of TensorRT's. It dies with the context current, after what was made of it."""

    def __init__(self, gpu: Gpu, log: Any, maker: _Part | None = None) -> None:
        self.gpu, self.log, self.maker_alive = gpu, log, maker and maker.alive
        self.alive = [True]
        self.handle = gpu.make(self.alive)

    def refuses(self, name: str) -> bool:
        """Whether this call fails; TensorRT writes why into its log."""
        error = self.gpu.call(name)
        if error:
            self.log.log(ILogger.WARNING, "this is not why")
            self.log.log(ILogger.ERROR, f"[{name}] Error Code 1: Cuda Runtime ({error})")
        return bool(error)

    def __del__(self) -> None:
        if not hasattr(self, "handle"):
            return
        self.alive[0] = False
        self.gpu.destroy(self.handle, type(self).__name__)
        if self.maker_alive is not None and not self.maker_alive[0]:
            self.gpu.faults.append(f"{type(self).__name__} outlived what it was made of")


class Runtime(_Part):
    def __init__(self, gpu: Gpu, log: Any) -> None:
        error = gpu.call("createInferRuntime")
        if error:
            log.log(ILogger.ERROR, f"CUDA initialization failure with error: {error}")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        super().__init__(gpu, log)

    @native
    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if self.refuses("deserialize_cuda_engine"):
            return None
        try:
            return Engine(self, json.loads(plan))
        except ValueError:
            self.log.log(ILogger.ERROR, "[engine.cpp] Error Code 1: Serialization (magic tag does not match)")
            return None


class Engine(_Part):
    def __init__(self, runtime: Runtime, description: dict[str, Any]) -> None:
        super().__init__(runtime.gpu, runtime.log, runtime)
        self.description = description
        self.tensors = description["tensors"]
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self.tensors[name][0]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.tensors[name][1]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name][2])

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if "HOST" in self.tensors[name] else TensorLocation.DEVICE

    @native
    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)

    @native
    def create_execution_context(self) -> Execution | None:
        return None if self.refuses("create_execution_context") else Execution(self)


class Inspector(_Part):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.gpu, engine.log, engine)
        self.description = engine.description

    @native
    def get_engine_information(self, kind: LayerInformationFormat) -> str:
        assert kind is LayerInformationFormat.JSON
        return str(self.description.get("inspected", "{}"))


class Execution(_Part):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.gpu, engine.log, engine)
        self.description = engine.description
        self.addresses: dict[str, int] = {}
        self.batch = -1
        self.runs = 0
        self.profiler: IProfiler | None = None

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return not self.refuses("set_tensor_address")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape[0]
        return name == "image" and not self.refuses("set_input_shape")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        first, *rest = self.description["tensors"][name][2]
        return (self.description.get("batch", self.batch if first < 0 else first), *rest)

    @native
    def execute_async_v3(self, stream: int) -> bool:
        if (
            self.refuses("execute_async_v3")
            or self.batch != 1
            or set(self.addresses) != set(self.description["tensors"])
        ):
            return False
        queue: Queue = self.gpu.live[stream]
        self.runs += 1
        if queue.captured is not None and (self.runs == 1 or not self.description.get("capturable", True)):
            queue.spoiled = True  # it allocates, or waits
            self.log.log(ILogger.ERROR, "operation not permitted when stream is capturing")
            return False
        if self.description.get("runs", True):
            gpu, at = self.gpu, dict(self.addresses)
            queue.add(lambda: _run(gpu, at))
        if self.profiler is not None:
            if queue.captured is not None:
                self.gpu.faults.append("a capture was profiled: its layers are not reported")
            queue.finish()  # it waits for each layer before it reports it
            for name, ms in self.description.get("layers", {}).items():
                self.profiler.report_layer_time(name, ms * (1 + self.runs))
        return True


def _run(gpu: Gpu, at: dict[str, int]) -> None:
    image = gpu.bytes_at(at["image"], SIZE * SIZE * 3).reshape(SIZE, SIZE, 3)
    for name, value in zip(("probabilities", "saliency"), answer(image), strict=True):
        gpu.bytes_at(at[name], value.nbytes)[:] = value.reshape(-1).view(np.uint8)
    gpu.clock_ms += RUN_MS


def module(gpu: Gpu, name: str = "tensorrt", version: str = "10.3.0") -> Any:
    """The module itself."""
    made = ModuleType(name)
    vars(made).update(
        __version__=version, DataType=DataType, TensorIOMode=TensorIOMode, TensorLocation=TensorLocation,
        ILogger=ILogger, IProfiler=IProfiler, LayerInformationFormat=LayerInformationFormat,
        Runtime=native(lambda log: Runtime(gpu, log)),
    )  # fmt: skip
    return made
