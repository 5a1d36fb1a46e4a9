"""The search for the layers that compute in eight bits: each is measured alone, the most harmful fall back.

The errors of single layers are small and nearly independent, so their squares add up: the layers are ordered by
squared damage for each multiply-add, and the graph takes them from the cheapest on as long as the bounds hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medtex_edge.export import parity
from medtex_edge.export.int8.quantize import Int8Layer, quantise
from medtex_edge.export.parity import Images
from medtex_edge.export.precision import rounding

# The worst of some hundred photographs and classes, over the root mean square that is predicted: 4 to 9 were met. The
# search starts where the smallest of them would just hold.
_WORST = 4.0
_STEP = 0.05  # of the multiply-adds, given back to the fp16 graph together where a bound does not hold
LEAST = 0.2  # of the multiply-adds; with less in eight bits the graph is slower than half precision


@dataclass(frozen=True)
class Damage:
    """The change of the answers when one layer alone is rounded to eight bits."""

    layer: Int8Layer
    probability: float  # root mean square over photographs and classes
    saliency: float  # root mean square over photographs of the mean absolute difference of a map

    def squared(self) -> float:
        """Of both, as fractions of what int8 may differ."""
        bounds = parity.BOUNDS["int8"]
        return (self.probability / bounds.probability) ** 2 + (self.saliency / bounds.saliency) ** 2


@dataclass(frozen=True)
class Int8Attempt:
    """One set of layers in eight bits, and its parity."""

    int8_share: float  # of the multiply-adds
    label_flips: int
    verdict_flips: int
    probability: float
    saliency: float
    rank_correlation: float | None


@dataclass(frozen=True)
class Int8Result:
    """How an int8 graph was found."""

    share: float  # of the multiply-adds of convolutions and matrices
    calibrated_on: int  # training photographs
    measured_on: int  # of them, for the damage of single layers
    damages: tuple[Damage, ...]  # in the order of the graph
    precisions: Mapping[str, str]  # node -> "int8", "fp16" or "fp32"
    attempts: tuple[Int8Attempt, ...]  # every graph that was tried, the last of them being this

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        table = [
            {
                "layer": d.layer.name, "part": d.layer.part, "kind": d.layer.kind,
                "multiply_adds": d.layer.multiply_adds, "probability": d.probability, "saliency": d.saliency,
                "precision": self.precisions[d.layer.node],
            }
            for d in self.damages
        ]  # fmt: skip
        return {
            "calibration": {"photographs": self.calibrated_on, "measured_on": self.measured_on, "split": "train"},
            "layers": table,
            "tries": [asdict(one) for one in self.attempts],
        }


def measure(
    full: bytes, scales: Mapping[str, float], layers: Sequence[Int8Layer], images: Images, tick: parity.Tick
) -> list[Damage]:
    """The damage of each layer, alone in eight bits in the fp32 graph, on `images` (N, S, S, 3)."""
    expected = _answers(full, images)
    found = []
    for layer in layers:
        actual = _answers(quantise(full, scales, {layer.node}), images)
        # NaN is beyond everything.
        off = [
            np.nan_to_num(np.abs(b - a).astype(np.float64), nan=np.inf) for a, b in zip(expected, actual, strict=True)
        ]
        probability, saliency = np.sqrt((off[0] ** 2).mean()), np.sqrt((off[1].mean(axis=(1, 2)) ** 2).mean())
        found.append(Damage(layer, float(probability), float(saliency)))
        tick(1)
    return found


def candidates(damages: Sequence[Damage]) -> Iterator[frozenset[str]]:
    """Sets of nodes to compute in eight bits, the largest that may hold first, then less and less of it."""
    # The product with the mask has nothing to gain: rounding its inputs moves more bytes than it saves.
    able = [d for d in damages if d.layer.multiply_adds > 0]
    order = sorted(able, key=lambda d: d.squared() / d.layer.multiply_adds)
    total = sum(d.layer.multiply_adds for d in able)
    adds = np.cumsum([d.layer.multiply_adds for d in order]) / max(total, 1)
    predicted = _WORST * np.sqrt(np.cumsum([d.squared() for d in order]))
    count = int((predicted <= 1).sum())
    while count and adds[count - 1] >= LEAST:
        yield frozenset(d.layer.node for d in order[:count])
        count = int((adds <= adds[count - 1] - _STEP).sum())


def _answers(content: bytes, images: Images) -> parity.Answers:
    return parity.answers(rounding.literal(content), images, lambda _: None)
