"""The time of each layer of a graph, measured by an engine's own profiler.

An engine is opened for the profile alone: profiling makes it slower, and runs one after another what else overlaps.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medtex_edge.errors import BackendError, SettingsError
from medtex_edge.runtime.backend.graph_parts import parts

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

RUNS = 30  # images that are measured
WARM_UP = 5  # images before them, which are not counted
ENGINE = "engine"  # the part of a layer that is in no graph: the engine added it
# The clock that a layer's milliseconds are of.
PROCESSOR, GPU = "processor", "gpu"
LAUNCHING = "processor, launching only"  # the GPU works on, and its time is not known


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer as an engine describes it. `nodes`: names of the graph's nodes, or of their outputs, that it computes."""

    name: str
    kind: str  # the operator, or the engine's own name
    precision: str  # "fp32", "fp16", "int8" ...; "unknown" where the engine does not report it
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class LayerTime:
    """One row of a profile. `ms` is the median over the runs, `share` its part of the sum of these (0..1).

    `part`: "explainer", "student", "rest" (pixels and mask), "engine" (added by it), or two of them where they were
    fused; "" where the graph has no names of ours.
    """

    name: str
    kind: str
    part: str
    precision: str
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The layers of one graph on one engine, in the order in which they run."""

    clock: str  # PROCESSOR, GPU or LAUNCHING
    layers: tuple[LayerTime, ...]


def profile(name: str, bundle: Bundle, *, precision: str = "fp32", threads: int | None = None) -> Profile:
    """Profile the engine `name`, as `open_backend` takes it, on the bundle's golden frames.

    Raises what `open_backend` raises, and `BackendError` where the engine reports no layers.
    """
    golden = bundle.golden.images
    images = [golden[index % len(golden)] for index in range(WARM_UP + RUNS)]
    engine, _, provider = name.partition(":")
    if name == "tensorrt":
        from medtex_edge.runtime.backend.tensorrt import profile

        clock, watched, runs = profile.watch(bundle, images, precision=precision)
    elif engine == "onnxruntime":
        from medtex_edge.runtime.backend.onnxruntime import profile as onnxruntime_profile

        clock, watched, runs = onnxruntime_profile.watch(
            bundle, images, precision=precision, threads=threads, provider=provider
        )
    else:
        raise SettingsError(f"profile: expected onnxruntime, onnxruntime:PROVIDER or tensorrt, got {name!r}")
    if not watched:
        raise BackendError(f"{name}: its profiler reports no layers")
    return Profile(clock, _rows(watched, runs[-RUNS:], parts(bundle.model(precision))))


def _rows(
    watched: Sequence[MeasuredLayer], runs: Sequence[Mapping[str, float]], part_of: Mapping[str, str]
) -> tuple[LayerTime, ...]:
    """`runs`: name of a layer -> milliseconds."""
    times = [statistics.median(run.get(layer.name, 0.0) for run in runs) for layer in watched]
    whole = sum(times) or 1.0
    return tuple(
        LayerTime(layer.name, layer.kind, _part(layer.nodes, part_of), layer.precision, ms, ms / whole)
        for layer, ms in zip(watched, times, strict=True)
    )


def _part(nodes: Iterable[str], part_of: Mapping[str, str]) -> str:
    found = {part_of[node] for node in nodes if node in part_of}
    return " + ".join(sorted(found)) or (ENGINE if part_of else "")
