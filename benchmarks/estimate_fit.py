"""Fit the numbers of `export/estimate/latency.py` to published times, and find the error on a network left out.

    python -m benchmarks.estimate_fit

The times are GPU milliseconds of `trtexec` on a Jetson Orin Nano 8 GB in MAXN SUPER with TensorRT 10.3, by others:
https://github.com/onnxsim/onnxsim/pull/1742. The networks are built here with random weights and exported as ours are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
import timm
import torch
from onnx import helper
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from torch import Tensor, nn

from medtex_edge.export.estimate.kernels import Kernel, kernels
from medtex_edge.export.estimate.latency import BOARDS, DEFAULT, Reached, timed
from medtex_edge.export.int8 import quantize
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.precision.half import to_half

# Network -> batch -> milliseconds in tf32 (as trtexec runs fp32), fp16 and int8.
PUBLISHED = {
    "resnet18": {1: (1.578, 0.758, 0.485), 8: (8.357, 3.537, 1.927)},
    "resnet50": {1: (3.596, 1.814, 1.190), 8: (19.969, 8.816, 4.930)},
    "mobilenetv2_100": {1: (1.386, 0.850, 0.781), 8: (8.147, 3.925, 2.446)},
}
FITTED = ("fp16", "int8")  # tf32 shows how far off the numbers are where they were not fitted
_STARTS = ((0.4, 0.1, 0.7, 4000), (0.7, 0.1, 0.7, 8000), (0.6, 0.3, 1.0, 6000))


@dataclass(frozen=True)
class Point:
    """One published time."""

    network: str
    precision: str
    batch: int
    ms: float
    kernels: tuple[Kernel, ...]

    def ratio(self, reached: Reached) -> float:
        """Estimated over published."""
        found = (timed(kernel, BOARDS[DEFAULT], reached, self.batch).seconds for kernel in self.kernels)
        return 1e3 * sum(found) / self.ms


class Alone(nn.Module):
    """image (N, S, S, 3) uint8 -> logits (N, C) of a network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image.float().permute(0, 3, 1, 2).contiguous())
        return logits


def network(name: str) -> nn.Module:
    """As in the ONNX model zoo, whose ResNet-50 halves the picture in its first 1 x 1 convolutions."""
    net: Any = timm.create_model(name, pretrained=False).eval()
    if name == "resnet50":
        for stage in (net.layer2, net.layer3, net.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    made: nn.Module = net
    return made


def residuals_in_int8(content: bytes) -> bytes:
    """Let sums read the rounded residual, as ModelOpt writes them; ours read the one before rounding."""
    model = onnx.load_from_string(content)
    graph = model.graph
    rounded = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    nodes = []
    for node in graph.node:
        index = next((i for i, name in enumerate(node.input) if node.op_type == "Add" and name in rounded), None)
        if index is not None:
            made = rounded[node.input[index]]
            node.input[index] = f"{node.name}_residual"
            parts = [made.output[0], *made.input[1:]]
            nodes.append(helper.make_node("DequantizeLinear", parts, [node.input[index]], node.input[index]))
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def points(name: str) -> Iterable[Point]:
    """The published times of one network, with the kernels of its graphs."""
    torch.manual_seed(0)
    full = to_onnx(Alone(network(name)), 224, ["logits"])
    scales: dict[str, float] = defaultdict(lambda: 0.1)
    eight = quantize.quantise(full, scales, {layer.node for layer in quantize.layers(full)})
    graphs = {"tf32": full, "fp16": to_half(full), "int8": to_half(residuals_in_int8(eight))}
    for index, (precision, content) in enumerate(graphs.items()):
        found = tuple(_as_published(kernel, precision) for kernel in kernels(content))
        for batch, times in PUBLISHED[name].items():
            yield Point(name, precision, batch, times[index], found)


def _as_published(kernel: Kernel, precision: str) -> Kernel:
    """Our exporter keeps the last matrix in fp32, and never computes in TF32."""
    if precision == "tf32":
        return replace(kernel, precision=precision)
    if kernel.kind == "matrix" and kernel.precision == "fp32":
        return replace(kernel, precision="fp16", weight_bytes=kernel.weight_bytes // 2)
    return kernel


def fit(chosen: list[Point]) -> Reached:
    """The numbers of least squared error of the logarithm. Without a point that has depthwise convolutions, these
    get the share of their peak that the dense ones reach."""
    chosen = [point for point in chosen if point.precision in FITTED]
    has_depthwise = any(kernel.kind == "depthwise" for point in chosen for kernel in point.kernels)

    def reached(logarithms: np.ndarray) -> Reached:
        dense, depthwise, bandwidth, clocks = (float(value) for value in np.exp(logarithms))
        return Reached(dense, depthwise if has_depthwise else dense, bandwidth, clocks)

    def loss(logarithms: np.ndarray) -> float:
        return sum(math.log(point.ratio(reached(logarithms))) ** 2 for point in chosen)

    options = {"maxiter": 4000, "xatol": 1e-5, "fatol": 1e-9}
    ends = [minimize(loss, np.log(start), method="Nelder-Mead", options=options) for start in _STARTS]
    return reached(min(ends, key=lambda end: float(end.fun)).x)


def main() -> None:
    console = Console()
    every = [point for name in PUBLISHED for point in points(name)]
    whole = fit(every)
    without = {name: fit([point for point in every if point.network != name]) for name in PUBLISHED}
    table = Table("network", "batch", "precision", "kernels", "published", "fitted to all", "to the two others")
    for point in every:
        cells = (str(point.batch), point.precision, str(len(point.kernels)), f"{point.ms:.3f} ms")
        off = (f"{point.ratio(one) - 1:+.0%}" for one in (whole, without[point.network]))
        table.add_row(point.network, *cells, *off)
    console.print(table)
    for label, one in {"fitted to all": whole, **{f"without {name}": one for name, one in without.items()}}.items():
        console.print(label, {name: float(f"{value:.3g}") for name, value in asdict(one).items()})
    single = [point for point in every if point.batch == 1 and point.precision in FITTED]
    worst = max(abs(point.ratio(without[point.network]) - 1) for point in single)
    console.print(f"worst at batch 1, on a network that was left out: {worst:.0%}")


if __name__ == "__main__":
    main()
