"""The grid of each activation: how large its values are on photographs, and where to cut their tail off.

The step is the one with the least squared error (Banner et al., NeurIPS 2019, found by search): cutting a few values
that stand out costs less than a coarser grid for all the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from medtex_edge.contract import INPUT_NAME
from medtex_edge.export.int8.quantize import LEVELS
from medtex_edge.export.parity import Floats, Images, Tick

_BINS = 2048
_CUTS = np.linspace(0.3, 1, 71)  # of the largest value
_BATCH = 2  # every activation of the graph is in memory at once


def observe(content: bytes, tensors: Sequence[str], images: Images, tick: Tick) -> dict[str, float]:
    """Activation -> the step of its grid, from `images` (N, S, S, 3) run through the fp32 graph, twice."""
    session = _session(content, tensors)
    tops = np.zeros(len(tensors))
    for values in _values(session, tensors, images, tick):
        tops = np.maximum(tops, [float(np.abs(value).max()) for value in values])
    counts = np.zeros((len(tensors), _BINS))
    for values in _values(session, tensors, images, tick):
        for count, value, top in zip(counts, values, tops, strict=True):
            count += np.histogram(np.abs(value), _BINS, (0, max(top, 1e-12)))[0]
    return {name: step_of(float(top), count) for name, top, count in zip(tensors, tops, counts, strict=True)}


def step_of(top: float, counts: npt.NDArray[np.float64]) -> float:
    """The step with the least squared error for |values| in 0..top, `counts` of them in equal bins."""
    middles = (np.arange(len(counts)) + 0.5) * (top / len(counts))
    steps = _CUTS * top / LEVELS
    rounded = np.minimum(np.rint(middles / np.maximum(steps[:, None], 1e-30)), LEVELS) * steps[:, None]
    errors = ((middles - rounded) ** 2 * counts).sum(axis=1)
    return float(steps[errors.argmin()])


def _values(session: Any, tensors: Sequence[str], images: Images, tick: Tick) -> Iterator[list[Floats]]:
    for start in range(0, len(images), _BATCH):
        batch = np.ascontiguousarray(images[start : start + _BATCH])
        yield session.run(list(tensors), {INPUT_NAME: batch})
        tick(len(batch))


def _session(content: bytes, tensors: Sequence[str]) -> Any:
    import onnxruntime

    model = onnx.load_from_string(content)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
