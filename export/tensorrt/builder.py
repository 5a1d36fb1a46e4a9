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
from medtex_edge.errors import BackendError, BundleError
from medtex_edge.export.tensorrt import report
from medtex_edge.export.tensorrt.config import (
    MEMORY_MIB,
    BatchProfile,
    Timings,
    add_profile,
    check_version,
    configure,
    full_name,
)
from medtex_edge.export.tensorrt.progress import Progress, Watch, listening, monitor, plain_message


@dataclass(frozen=True)
class Tensor:
    """An input or output of the network; `dtype` as in "fp32", "uint8"; a side of -1 is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine. `layers` are those that run where `source` is "engine"; where it is "network" there was no
    GPU to load it, and they are those of the graph before the build, with the precisions that they request, unfused."""

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
) -> BuiltEngine:
    """Build the ONNX file `model` with `trt`, for a batch of one or for those of `profile`.

    The graph's inputs and outputs are checked against `contract`. `capability` ("8.6") names the GPU to build for,
    which only TensorRT for RTX can; without it the engine is for the GPU of this machine. `memory_mib` bounds the
    workspace of a layer. `timing_cache` is read where it exists and written where TensorRT keeps one; it makes a
    second build shorter. `progress` is a callback, see `Watch`. `label` is the first part of each error message.

    Raises `BundleError` for a graph that is refused (with the node's name) or is not as the contract promises,
    `BackendError` for a TensorRT that is too old, does not start or finds no kernels, `SettingsError` for a
    capability that it does not know, and what `progress` raises.
    """
    version = check_version(trt)
    start, watch = time.monotonic(), Watch(progress)
    with listening(trt, watch) as log:
        builder = _builder(trt, log, watch)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = _parse(trt, network, log, model, watch, label)  # the network's weights are its own
        inputs, outputs = _close(trt, network, profile, watch, label)
        if contract is not None:
            _check_contract(inputs, outputs, contract, label)
        graph = report.of_network(network)
        config = configure(trt, builder, memory_mib, capability)
        add_profile(builder, config, inputs[0].name, inputs[0].shape[1:], profile)
        timings = Timings(trt, config, timing_cache)
        plan = _build(trt, builder, network, config, watch, label)
        notes = (*map(plain_message, watch.warnings), *timings.keep())
        del config, network, parser, builder, timings  # their memory, before the engine is loaded
        layers = report.inspect(trt, plan, log)
    if progress is not None:
        progress("done", 1.0)
    return BuiltEngine(
        plan, layers or graph, time.monotonic() - start, version, trt.__name__, "engine" if layers else "network",
        len(graph), inputs, outputs, notes,
    )  # fmt: skip


def _builder(trt: ModuleType, log: Any, watch: Watch) -> Any:
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError) as error:  # what pybind11 raises for a null pointer
        raise BackendError(
            f"{full_name(trt)} does not start: {watch.reason() or error}",
            hint="it needs a GPU and its driver: see `medtex-edge doctor`",
        ) from error


def _parse(trt: ModuleType, network: Any, log: Any, model: bytes, watch: Watch, label: str) -> Any:
    parser = trt.OnnxParser(network, log)
    done = parser.parse(model)
    watch.check()
    if done and network.num_inputs and network.num_outputs:
        return parser
    refuses = f"{label}: {full_name(trt)} refuses"
    if done or not parser.num_errors:  # an empty file is parsed without complaint
        raise BundleError(f"{refuses} the graph: {watch.reason() or 'it has no inputs or no outputs'}")
    error = parser.get_error(0)
    name, operator = error.node_name(), error.node_operator()
    where = f"node {name or error.node()} ({operator})" if operator or name else "the graph"
    raise BundleError(
        f"{refuses} {where}: {plain_message(error.desc()) or error.code().name.lower()}",
        hint="export the bundle again; where that does not help, --backend onnxruntime runs it",
    )


def _close(
    trt: ModuleType, network: Any, profile: BatchProfile | None, watch: Watch, label: str
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Close the batch at one, or leave it open for the profile -> inputs, outputs."""
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *sides = tuple(tensor.shape) or (0,)
        wanted = (-1,) if profile else (-1, 1)
        if batch not in wanted or min(sides, default=1) < 1:
            raise BundleError(f"{label}: input {tensor.name}: expected a batch that is open{' or 1' * (not profile)} "
                              f"and other sides that are not, the graph has {tuple(tensor.shape)}")  # fmt: skip
        if profile is None:
            tensor.shape = (1, *sides)
    try:
        inputs = tuple(_tensor(network.get_input(index)) for index in range(network.num_inputs))
        return inputs, tuple(_tensor(network.get_output(index)) for index in range(network.num_outputs))
    except RuntimeError as error:  # shapes are computed when they are read
        raise BundleError(f"{label}: {full_name(trt)} refuses the graph for this batch: {watch.reason() or error}",
                          hint="export the bundle again") from error  # fmt: skip


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, report.precision_name(tensor.dtype), tuple(tensor.shape))


def _check_contract(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], c: Contract, label: str) -> None:
    batch = inputs[0].shape[0]
    expected = (
        ("inputs", inputs, [Tensor(INPUT_NAME, "uint8", (batch, c.height, c.width, 3))]),
        ("outputs", outputs, [
            Tensor("probabilities", "fp32", (batch, len(c.classes))),
            Tensor("saliency", "fp32", (batch, c.saliency_height, c.saliency_width)),
        ]),
    )  # fmt: skip
    for kind, actual, wanted in expected:
        if sorted(actual, key=lambda t: t.name) != wanted:
            raise BundleError(f"{label}: expected the {kind} {_shown(wanted)} by the contract, the graph has "
                              f"{_shown(actual)}")  # fmt: skip


def _shown(tensors: Any) -> str:
    return ", ".join(f"{t.name} {t.shape} {t.dtype}" for t in tensors)


def _build(trt: ModuleType, builder: Any, network: Any, config: Any, watch: Watch, label: str) -> bytes:
    progress_monitor = config.progress_monitor = monitor(trt, watch)
    watch.errors.clear()
    serialised = builder.build_serialized_network(network, config)
    config.progress_monitor = None
    del progress_monitor
    watch.check()
    if serialised is None:
        raise BackendError(f"{label}: {full_name(trt)} builds no engine: {watch.reason() or 'no reason was given'}",
                           hint=_hint(watch))  # fmt: skip
    return bytes(serialised)


def _hint(watch: Watch) -> str:
    text = " ".join(watch.errors).lower()
    if "memory" in text or "workspace" in text:
        return "close other programs, or allow the builder another amount of memory"
    if "cuda" in text:
        return "see `medtex-edge doctor` for the GPU and its driver"
    return "--backend onnxruntime runs the same bundle"
