"""Parity: how far a graph's answers are from those of the fp32 PyTorch model, and the bounds of each precision.

`medtex_edge.export.gate` refuses a graph that is beyond them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medtex_edge.contract import Contract
from medtex_edge.errors import ParityError
from medtex_edge.runtime.backend import Backend
from medtex_edge.train.metrics import ranks
from medtex_edge.train.models.medtex import MedTex

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Answers = tuple[Floats, Floats]  # probabilities (N, C), saliency (N, h, w)
Tick = Callable[[int], None]  # a callback: this many more photographs are done

# A verdict that flips this close to the threshold is a tie, counted and reported but not refused: single precision
# itself differs by up to 1e-6 between machines, half by up to 1e-3, and no photograph is graded that finely. So is a
# label whose two classes the trained model itself puts this close: met on a real photograph at a distance of 3e-5.
TIE = 1e-3
INVISIBLE = 1e-3  # a quarter of a grey level of an overlay
HINTS = {
    "fp32": "this graph must not be used: please report it",
    "fp16": "export without --fp16 and --int8",  # int8's layers that are not in eight bits are those of fp16
    "int8": "export without --int8",
}
_BATCH = 8  # more than one, so that the open batch of the graph is proved too


def _silent(_: int) -> None:
    """No callback."""


@dataclass(frozen=True)
class Bounds:
    """The bounds of one precision: how far its graph may be from the fp32 PyTorch model on any photograph."""

    probability: float  # largest difference of any class probability
    saliency: float  # mean absolute difference of any one map
    rank_correlation: float  # Spearman's, of the pixels of a map, on average
    flips: float = 0.0  # fraction of the photographs whose label may flip, and whose verdict may


BOUNDS = {
    "fp32": Bounds(probability=1e-3, saliency=1e-3, rank_correlation=0.99),
    "fp16": Bounds(probability=0.02, saliency=0.01, rank_correlation=0.99),
    "int8": Bounds(probability=0.05, saliency=0.03, rank_correlation=0.97, flips=0.01),
}


@dataclass(frozen=True)
class Parity:
    """How far a graph is from the fp32 PyTorch model; the worst photograph counts."""

    photographs: int
    label_flips: int  # between classes that the model puts further than `TIE` apart
    label_ties: int  # flips between classes within `TIE` of each other
    verdict_flips: int  # at the operating point, further than `TIE` from it
    verdict_ties: int  # flips within `TIE` of it
    probability: float  # largest difference of any class probability
    saliency: float  # largest mean absolute difference of a map
    rank_correlation: float | None  # mean of Spearman's over the maps; None where all maps are flat
    worst: int  # index of the photograph with the largest difference of a probability

    def to_json(self) -> dict[str, Any]:
        """For the report. The worst photograph's index is left out: it means nothing without the photographs."""
        return {name: value for name, value in asdict(self).items() if name != "worst"}


def reference(model: MedTex, images: Images, tick: Tick = _silent) -> Answers:
    """The fp32 PyTorch model's own answers for images (N, S, S, 3) uint8 RGB."""

    def infer(batch: Images) -> Answers:
        with torch.inference_mode():
            probabilities, saliency = model(torch.from_numpy(batch))
        return probabilities.numpy(), saliency.numpy()

    return answers(infer, images, tick)


def of_backend(backend: Backend, images: Images, tick: Tick = _silent) -> Answers:
    """A backend's answers for images (N, S, S, 3) uint8 RGB. Raises `BackendError`."""

    def infer(batch: Images) -> Answers:
        outputs = backend.infer(batch)
        return outputs.probabilities, outputs.saliency

    return answers(infer, images, tick)


def answers(infer: Callable[[Images], Answers], images: Images, tick: Tick) -> Answers:
    """Run `infer` over images (N, S, S, 3) in batches and concatenate the answers."""
    parts = []
    for batch in _batches(images):
        parts.append(infer(batch))
        tick(len(batch))
    return np.concatenate([p for p, _ in parts]), np.concatenate([s for _, s in parts])


def compare(expected: Answers, actual: Answers, contract: Contract) -> Parity:
    """Compare two sets of answers for the same N >= 1 photographs. NaN counts as the largest difference."""
    probability = np.nan_to_num(np.abs(actual[0] - expected[0]).max(axis=1), nan=np.inf)
    saliency = np.nan_to_num(np.abs(actual[1] - expected[1]).mean(axis=(1, 2)), nan=np.inf)
    threshold = np.float32(contract.operating_point.threshold)
    scores = [contract.referable_probability(p) for p in (expected[0], actual[0])]
    flipped = (scores[0] >= threshold) != (scores[1] >= threshold)
    tied = flipped & (np.maximum(*(np.abs(score - threshold) for score in scores)) <= TIE)
    labels, others = (answers[0].argmax(axis=1) for answers in (expected, actual))
    rows = np.arange(len(labels))
    changed = labels != others
    near = changed & (expected[0][rows, labels] - expected[0][rows, others] <= TIE)
    ranks = [r for a, b in zip(expected[1], actual[1], strict=True) if (r := rank_correlation(a, b)) is not None]
    return Parity(
        photographs=len(probability),
        label_flips=int((changed & ~near).sum()),
        label_ties=int(near.sum()),
        verdict_flips=int((flipped & ~tied).sum()),
        verdict_ties=int(tied.sum()),
        probability=float(probability.max()),
        saliency=float(saliency.max()),
        rank_correlation=float(np.mean(ranks)) if ranks else None,
        worst=int(probability.argmax()),
    )


def holds(parity: Parity, bounds: Bounds) -> bool:
    """Whether every number is within its bound; NaN and infinity are not."""
    rank = 1.0 if parity.rank_correlation is None else parity.rank_correlation
    allowed = flips_allowed(parity, bounds)
    return (
        parity.label_flips <= allowed
        and parity.verdict_flips <= allowed
        and parity.probability <= bounds.probability
        and parity.saliency <= bounds.saliency
        and rank >= bounds.rank_correlation
    )


def flips_allowed(parity: Parity, bounds: Bounds) -> int:
    """How many labels, and how many verdicts, may flip on so many photographs."""
    return int(bounds.flips * parity.photographs)


def check(precision: str, parity: Parity, bounds: Bounds, keys: Sequence[str], engine: str) -> None:
    """Raise `ParityError` with every number, where one is beyond its bound. `keys` names the photographs."""
    if holds(parity, bounds):
        return
    rank = 1.0 if parity.rank_correlation is None else parity.rank_correlation
    allowed = flips_allowed(parity, bounds)
    raise ParityError(
        f"{precision} ({engine}) differs from the trained model on {parity.photographs} photographs: "
        f"labels flipped {parity.label_flips} (bound {allowed}), "
        f"verdicts flipped {parity.verdict_flips} (bound {allowed}), "
        f"probability by up to {parity.probability:.3g} (bound {bounds.probability:g}), "
        f"saliency by up to {parity.saliency:.3g} (bound {bounds.saliency:g}), "
        f"rank correlation {rank:.4f} (bound {bounds.rank_correlation:g}); "
        f"worst on {keys[parity.worst]}; no bundle was written",
        hint=HINTS[precision],
    )


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Spearman's correlation of the pixels of two maps, ties by their mean rank; None for a flat map.

    The maps are (h, w) float32. Pixels of `b` within `INVISIBLE` of `a` count as equal to it: most of a sparse map is
    nearly 0, and the order of those pixels, which the last bit decides, would outweigh that of the salient ones.
    """
    close = np.where(np.abs(a - b) <= INVISIBLE, a, b)
    return None if np.ptp(a) < 10 * INVISIBLE else ranks.rank_correlation(a, close)


def _batches(images: Images) -> Iterator[Images]:
    for start in range(0, len(images), _BATCH):
        # A memory-mapped cache is read-only, which PyTorch warns about.
        yield np.array(images[start : start + _BATCH])
