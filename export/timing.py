"""Latency of graphs on this CPU, measured in turns so that other load falls on all of them.

Milliseconds belong to one machine on one day; the ratios, from one interleaved run, are what can be compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np

from medtex_edge.contract import Contract
from medtex_edge.runtime.backend import onnxruntime as backends

REPEATS = 30
WARM_UP = 3


def graph_times(graphs: Mapping[str, bytes], contract: Contract, *, repeats: int = REPEATS) -> dict[str, float]:
    """Name -> median milliseconds of one photograph through that graph in ONNX Runtime, on one thread of this CPU.

    A CPU computes half precision in single, and eight bits with every rounding on top: both are for GPUs.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, contract.height, contract.width, 3)).astype(np.uint8)
    with ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        for name, content in graphs.items():
            backend = stack.enter_context(backends.open_graph(content, contract, threads=1, label=name))
            runs[name] = partial(backend.infer, image)
        return {name: 1000 * seconds for name, seconds in interleaved(runs, repeats).items()}


def interleaved(runs: dict[str, Callable[[], object]], repeats: int, pause: float = 0.0) -> dict[str, float]:
    """Median seconds of each, in turns, `pause` seconds apart."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + repeats):
        for name, run in runs.items():
            time.sleep(pause)
            start = time.perf_counter()
            run()
            if turn >= WARM_UP:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}
