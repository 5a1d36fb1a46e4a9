"""The builder: one ONNX file -> one TensorRT engine, on the device that will run it. Needs no torch and no onnx.

The module is an argument: `tensorrt` from 10.3 to 11, or `tensorrt_rtx`. The precision is in the graph and the network
is strongly typed, so that the engine computes what was proved, and the same calls do for every version.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from medtex_edge.contract import INPUT_NAME, Contract
from medtex_edge.errors import BackendError, BundleError, SettingsError, StorageError
from medtex_edge.export import tensorrt_report as report
from medtex_edge.export.tensorrt_watch import Progress, Watch, logger, monitor, plain_words
from medtex_edge.files import atomic_write, storage

# What layers of this size ask for is far below; the default of TensorRT is all of the memory, which on a Jetson is
# that of the camera and the display too.
MEMORY_MIB = 512
OLDEST = (10, 3)  # of `tensorrt`: JetPack 6.1
_RTX = "ComputeCapability"  # the name that only TensorRT for RTX has


@dataclass(frozen=True)
class BatchProfile:
    """Batches that one engine takes: 1 <= `smallest` <= `usual`, for which it is tuned, <= `largest`."""

    smallest: int
    usual: int
    largest: int

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.usual <= self.largest:
            raise SettingsError(f"batch profile: expected 1 <= smallest <= usual <= largest, got "
                                f"{self.smallest}, {self.usual}, {self.largest}")  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An input or output of the network; `dtype` as in "fp32", "uint8"; a side of -1 is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Engine:
    """A built engine. `layers` are those that run where `source` is "engine"; where it is "network" no GPU could be
    asked, and they are those of the graph before the build: what they ask for, and nothing of what was fused."""

    plan: bytes
    layers: list[report.Layer]
    seconds: float
    version: str
    module: str
    source: str
    graph_layers: int  # of the network before the build, constants left out
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    warnings: tuple[str, ...] = field(default=())

    def report(self) -> dict[str, Any]:
        """All but the plan, as a value for `json.dump`. `fused` is how many layers of the graph went into others, None
        where that is not known."""
        values = {name: value for name, value in vars(self).items() if name not in ("plan", "inputs", "outputs")}
        return {
            **values,
            "warnings": list(self.warnings),
            "bytes": len(self.plan),
            "fused": self.graph_layers - len(self.layers) if self.source == "engine" else None,
            "precisions": report.precisions(self.layers),
            "inputs": [asdict(tensor) for tensor in self.inputs],
            "outputs": [asdict(tensor) for tensor in self.outputs],
        }


def build(
    trt: ModuleType,
    model: bytes,
    *,
    contract: Contract | None = None,
    profile: BatchProfile | None = None,
    capability: str | None = None,
    memory_mib: int = MEMORY_MIB,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
    label: str = "graph",
) -> Engine:
    """Build the ONNX file `model` with `trt`, for a batch of one or for those of `profile`.

    `contract` is what the graph's inputs and outputs are held against. `capability` ("8.6") names the GPU to build for,
    which TensorRT for RTX can without one; without it the engine is for the GPU at hand. `memory_mib` bounds what a
    layer may borrow. `timing_cache` is read where it exists and written where TensorRT keeps one; it makes a second
    build shorter. `progress` is described at `Watch`. `label` stands before each error.
    Raises `BundleError` for a graph that is refused (with the node's name) or is not what the contract says,
    `BackendError` for a TensorRT that is too old, does not start or finds no way to build, `SettingsError` for a
    capability that it does not know, and what `progress` raises.
    """
    version = check_version(trt)
    start, watch = time.monotonic(), Watch(progress)
    log = logger(trt, watch)
    builder = _builder(trt, log, watch)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, log, model, watch, label)
    _set_batch(network, profile, label)
    inputs, outputs = _tensors(network)
    if contract is not None:
        _check_contract(inputs, outputs, contract, label)
    graph = report.of_network(network)
    config = _config(trt, builder, memory_mib, capability)
    _add_profile(builder, config, inputs[0], profile)
    progress_monitor = config.progress_monitor = monitor(trt, watch)
    timings = _Timings(trt, config, timing_cache)
    watch.errors.clear()
    serialised = builder.build_serialized_network(network, config)
    watch.check()
    if serialised is None:
        raise BackendError(f"{label}: {_full_name(trt)} builds no engine: {watch.reason() or 'no reason was given'}",
                           hint=_hint(watch))  # fmt: skip
    plan = bytes(serialised)
    notes = timings.keep()
    del progress_monitor, config, network, builder  # their memory, before the engine is loaded
    layers = report.inspect(trt, plan, log)
    if progress is not None:
        progress("done", 1.0)
    return Engine(
        plan, layers or graph, time.monotonic() - start, version, trt.__name__, "engine" if layers else "network",
        len(graph), inputs, outputs, (*watch.warnings, *notes),
    )  # fmt: skip


def check_version(trt: ModuleType) -> str:
    """The version of a module that can build. Raises `BackendError` for one that is too old, or only runs engines."""
    name, version = trt.__name__, str(trt.__version__)
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    rtx = hasattr(trt, _RTX)
    if not rtx and numbers < OLDEST:
        raise BackendError(
            f"{name}: expected version {OLDEST[0]}.{OLDEST[1]} or newer, this is {version}",
            hint="JetPack 6.1 and later bring it; until then --backend onnxruntime runs the same bundle",
        )
    if not hasattr(trt, "Builder"):
        raise BackendError(f"{name} {version}: expected the whole of TensorRT, this part of it builds nothing",
                           hint="sudo apt install python3-libnvinfer")  # fmt: skip
    return version


def _full_name(trt: ModuleType) -> str:
    return f"{'TensorRT for RTX' if hasattr(trt, _RTX) else 'TensorRT'} {trt.__version__}"


def _builder(trt: ModuleType, log: Any, watch: Watch) -> Any:
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError) as error:  # pybind11's way to say that it came back with nothing
        raise BackendError(
            f"{_full_name(trt)} does not start: {watch.reason() or error}",
            hint="it needs a GPU and its driver: see `medtex-edge doctor`",
        ) from error


def _parse(trt: ModuleType, network: Any, log: Any, model: bytes, watch: Watch, label: str) -> None:
    parser = trt.OnnxParser(network, log)
    done = parser.parse(model)
    watch.check()
    if done and network.num_inputs and network.num_outputs:
        return
    refuses = f"{label}: {_full_name(trt)} refuses"
    if done or not parser.num_errors:  # an empty file is parsed without complaint
        raise BundleError(f"{refuses} the graph: {watch.reason() or 'it has no inputs or no outputs'}")
    error = parser.get_error(0)
    name, operator = error.node_name(), error.node_operator()
    where = f"node {name or error.node()} ({operator})" if operator or name else "the graph"
    raise BundleError(
        f"{refuses} {where}: {plain_words(error.desc()) or error.code().name.lower()}",
        hint="export the bundle again; where that does not help, --backend onnxruntime runs it",
    )


def _set_batch(network: Any, profile: BatchProfile | None, label: str) -> None:
    """Close the batch at one, or leave it open for the profile."""
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *sides = tuple(tensor.shape) or (0,)
        wanted = (-1,) if profile else (-1, 1)
        if batch not in wanted or min(sides, default=1) < 1:
            raise BundleError(f"{label}: input {tensor.name}: expected a batch that is open{' or 1' * (not profile)} "
                              f"and other sides that are not, the graph has {tuple(tensor.shape)}")  # fmt: skip
        if profile is None:
            tensor.shape = (1, *sides)


def _tensors(network: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    def told(tensor: Any) -> Tensor:
        return Tensor(tensor.name, report.precision_name(tensor.dtype), tuple(tensor.shape))

    return (
        tuple(told(network.get_input(index)) for index in range(network.num_inputs)),
        tuple(told(network.get_output(index)) for index in range(network.num_outputs)),
    )


def _check_contract(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], c: Contract, label: str) -> None:
    batch = inputs[0].shape[0]
    expected = (
        ("inputs", inputs, [Tensor(INPUT_NAME, "uint8", (batch, c.height, c.width, 3))]),
        ("outputs", outputs, [
            Tensor("probabilities", "fp32", (batch, len(c.classes))),
            Tensor("saliency", "fp32", (batch, c.saliency_height, c.saliency_width)),
        ]),
    )  # fmt: skip
    for kind, came, wanted in expected:
        if sorted(came, key=lambda t: t.name) != wanted:
            raise BundleError(f"{label}: expected the {kind} {_shown(wanted)} by the contract, the graph has "
                              f"{_shown(came)}")  # fmt: skip


def _shown(tensors: Any) -> str:
    return ", ".join(f"{t.name} {t.shape} {t.dtype}" for t in tensors)


def _config(trt: ModuleType, builder: Any, memory_mib: int, capability: str | None) -> Any:
    if memory_mib < 1:
        raise SettingsError(f"memory: expected at least 1 MiB for the builder, got {memory_mib}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, memory_mib << 20)
    # On by default, it would round the inputs of an fp32 graph's convolutions to 11 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector knows names alone
    if capability is None:
        return config
    if not hasattr(trt, _RTX):
        raise SettingsError(f"capability: {_full_name(trt)} builds for the GPU at hand alone, not for {capability!r}",
                            hint="leave it out")  # fmt: skip
    members = trt.ComputeCapability.__members__
    known = {f"{name[2:-1]}.{name[-1]}": item for name, item in members.items() if name.startswith("SM")}
    if capability not in known:
        raise SettingsError(f"capability: expected one of {', '.join(known)}, got {capability!r}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[capability], 0)
    return config


def _add_profile(builder: Any, config: Any, image: Tensor, profile: BatchProfile | None) -> None:
    if profile is None:
        return
    made = builder.create_optimization_profile()
    made.set_shape(image.name, *((n, *image.shape[1:]) for n in (profile.smallest, profile.usual, profile.largest)))
    config.add_optimization_profile(made)


class _Timings:
    """What each kernel took on this GPU, kept in a file for the next build. TensorRT for RTX measures nothing."""

    def __init__(self, trt: ModuleType, config: Any, path: Path | None) -> None:
        self._path, self._before, self._cache = path, b"", None
        if path is None or hasattr(trt, _RTX):
            return
        with storage(path, "read"):
            self._before = path.read_bytes() if path.exists() else b""
        self._cache = config.create_timing_cache(self._before)
        # One of another GPU or version is refused, and a new one begun.
        if self._cache is None or not config.set_timing_cache(self._cache, False):
            self._cache = config.create_timing_cache(b"")
            config.set_timing_cache(self._cache, False)

    def keep(self) -> tuple[str, ...]:
        """Write the file; a disk that refuses costs the next build's time, not this engine, and is told."""
        if self._path is None or self._cache is None:
            return ()
        after = bytes(self._cache.serialize())
        if after == self._before:
            return ()
        try:
            with atomic_write(self._path) as file:
                file.write(after)
        except StorageError as error:
            return (f"the timing cache was not kept: {error.message}",)
        return ()


def _hint(watch: Watch) -> str:
    text = " ".join(watch.errors).lower()
    if "memory" in text or "workspace" in text:
        return "close other programs, or allow the builder another amount of memory"
    if "cuda" in text:
        return "see `medtex-edge doctor` for the GPU and its driver"
    return "--backend onnxruntime runs the same bundle"
