"""How long a graph should take on a board's GPU: arithmetic for planning, not a measurement.

Each kernel takes the longer of its arithmetic and its bytes (the roofline: Williams, Waterman and Patterson, 2009), and
a fixed time to be launched, to fill the GPU and to drain it. Four numbers describe how much of a board's peak is
reached. `benchmarks/estimate_fit.py` fits them to published times and finds the error that every estimate states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from medtex_edge.errors import SettingsError
from medtex_edge.export.estimate.kernels import PARTS, Kernel, kernels

# Multiply-adds of one multiprocessor of an Orin (compute capability 8.7) in one clock: dense ones on its tensor cores;
# depthwise ones, and fp32, on its 128 CUDA cores. TF32 is of the fit alone: our engines are built without it.
_TENSOR_CORES = {"tf32": 512, "fp16": 1024, "int8": 2048}
_CUDA_CORES = 128
NOTE = "an estimate from arithmetic, not a measurement: `medtex-edge bench --backend tensorrt` measures on the board"


@dataclass(frozen=True)
class BoardModel:
    """One board in one power mode.

    SOURCE: NVIDIA's data sheets of the Jetson Orin Nano, Orin NX and AGX Orin series (multiprocessors, clock and
    bandwidth), the Orin Nano's Super and 25 W clocks as JetPack 6.2 shows them. They agree with the published TOPS of
    the GPU alone, dense int8: 33, 30, 20, 30 and 85 in the order of `BOARDS`.
    """

    title: str
    multiprocessors: int
    gpu_mhz: int
    bandwidth_gbs: float

    def multiply_adds_per_s(self, per_clock: int) -> float:
        """At the peak, of cores that do `per_clock` of them on each multiprocessor."""
        return self.multiprocessors * self.gpu_mhz * 1e6 * per_clock


BOARDS = {
    "orin-nano": BoardModel("Jetson Orin Nano 8 GB, MAXN SUPER", 8, 1020, 102.4),
    "orin-nano-25w": BoardModel("Jetson Orin Nano 8 GB, 25 W", 8, 918, 102.4),
    "orin-nano-15w": BoardModel("Jetson Orin Nano 8 GB, 15 W", 8, 625, 68.3),
    "orin-nx": BoardModel("Jetson Orin NX 16 GB, MAXN", 8, 918, 102.4),
    "agx-orin": BoardModel("Jetson AGX Orin 64 GB, MAXN", 16, 1300, 204.8),
}
DEFAULT = "orin-nano"


@dataclass(frozen=True)
class Reached:
    """How much of a board's peak kernels reach, as fractions, and what each costs besides."""

    dense: float
    depthwise: float
    bandwidth: float
    launch_clocks: float  # the fixed time of a kernel, in clocks of the GPU: it was fitted at one clock alone


# By benchmarks/estimate_fit.py, from the times of ResNet-18, ResNet-50 and MobileNetV2 in fp16 and int8 at batch 1 and
# 8 on an Orin Nano 8 GB in MAXN SUPER, TensorRT 10.3 (https://github.com/onnxsim/onnxsim/pull/1742).
REACHED = Reached(dense=0.603, depthwise=0.114, bandwidth=0.83, launch_clocks=7840)
# The worst of the six times at batch 1, each estimated from the times of the two other networks. For graphs in fp32 it
# is that of fp32 with TF32, which was not fitted; of fp32 without it nothing was published.
ERROR = 0.19
ERROR_FP32 = 0.22


@dataclass(frozen=True)
class Timed:
    """A kernel and its time on one board."""

    kernel: Kernel
    launch_s: float
    arithmetic_s: float
    bytes_s: float

    @property
    def seconds(self) -> float:
        """Of the launch and of the work, in which arithmetic and memory overlap."""
        return self.launch_s + max(self.arithmetic_s, self.bytes_s)

    @property
    def limit(self) -> str:
        """What it spends most of its time on."""
        costs = {"launch": self.launch_s, "arithmetic": self.arithmetic_s, "bytes": self.bytes_s}
        return max(costs, key=lambda name: costs[name])


def timed(kernel: Kernel, board: BoardModel, reached: Reached = REACHED, batch: int = 1) -> Timed:
    """The time of one kernel, for `batch` photographs at once."""
    depthwise = kernel.kind == "depthwise"
    per_clock = _CUDA_CORES if depthwise else _TENSOR_CORES.get(kernel.precision, _CUDA_CORES)
    reachable = board.multiply_adds_per_s(per_clock) * (reached.depthwise if depthwise else reached.dense)
    moved = kernel.weight_bytes + batch * (kernel.read_bytes + kernel.written_bytes)
    return Timed(
        kernel,
        launch_s=reached.launch_clocks / (board.gpu_mhz * 1e6),
        arithmetic_s=batch * kernel.multiply_adds / reachable,
        bytes_s=moved / (board.bandwidth_gbs * 1e9 * reached.bandwidth),
    )


def estimate(content: bytes, board: str = DEFAULT) -> dict[str, Any]:
    """Estimate the time of one photograph through an ONNX file on `board`; a value for `json.dump`.

    Raises `BundleError` for what is no ONNX file, `SettingsError` for an unknown board.
    """
    if board not in BOARDS:
        raise SettingsError(f"--board: expected one of {', '.join(BOARDS)}, got {board!r}")
    found = [timed(kernel, BOARDS[board]) for kernel in kernels(content)]
    middle = _ms(one.seconds for one in found)
    launch = _ms(one.launch_s for one in found)
    arithmetic = _ms(one.arithmetic_s for one in found if one.arithmetic_s > one.bytes_s)
    error = _error(found)
    return {
        "note": NOTE,
        "board": BOARDS[board].title,
        "ms": {"low": _round(middle / (1 + error)), "middle": _round(middle), "high": _round(middle / (1 - error))},
        **_totals(found),
        "parts": {part: _sums([one for one in found if one.kernel.part == part]) for part in PARTS},
        "kinds": {kind: _sums([one for one in found if one.kernel.kind == kind]) for kind in _kinds(found)},
        "spent_ms": {
            "launch": _round(launch),
            "arithmetic": _round(arithmetic),
            "bytes": _round(middle - launch - arithmetic),
        },
        "assumed": {**asdict(BOARDS[board]), **asdict(REACHED), "error": error},
        "kernels": [_row(one) for one in found],
    }


def _error(found: list[Timed]) -> float:
    """How far off the estimate may be, as a fraction of the time that is measured."""
    full = sum(one.kernel.multiply_adds for one in found if one.kernel.precision == "fp32")
    return ERROR_FP32 if 2 * full > sum(one.kernel.multiply_adds for one in found) else ERROR


def _sums(found: list[Timed]) -> dict[str, Any]:
    return {"ms": _round(_ms(one.seconds for one in found)), **_totals(found)}


def _totals(found: list[Timed]) -> dict[str, int]:
    return {
        "launches": len(found),
        "multiply_adds": sum(one.kernel.multiply_adds for one in found),
        "bytes": sum(one.kernel.moved_bytes for one in found),
    }


def _kinds(found: list[Timed]) -> list[str]:
    """The one that takes most of the time first."""
    taken: dict[str, float] = {}
    for one in found:
        taken[one.kernel.kind] = taken.get(one.kernel.kind, 0.0) + one.seconds
    return sorted(taken, key=lambda kind: -taken[kind])


def _row(one: Timed) -> dict[str, Any]:
    row = {name: value for name, value in asdict(one.kernel).items() if name != "nodes"}
    return {**row, "us": round(1e6 * one.seconds, 2), "limit": one.limit}


def _ms(seconds: Iterable[float]) -> float:
    return 1e3 * sum(seconds)


def _round(milliseconds: float) -> float:
    return round(milliseconds, 3)
