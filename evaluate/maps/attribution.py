"""Attribution methods: CAMs at every stage of a classifier, integrated gradients, RISE.

They explain a classifier that was trained without them, so they can be made of teacher and student alike. All of them
explain the same number, `referable_log_odds`, and end as maps on one grid: values mean an order, not an amount.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from medtex_edge.errors import SettingsError
from medtex_edge.evaluate.maps.cams import cams
from medtex_edge.evaluate.maps.perturbation import integrated_gradients, rise
from medtex_edge.evaluate.maps.target import AttributionTarget, Floats, Images
from medtex_edge.evaluate.masked_predictor import PredictMasked

Tick = Callable[[], None]

CAMS = ("gradcam", "gradcam++", "layercam")
NAMES = (*CAMS, "ig", "rise")
SLOW = ("ig", "rise")


@dataclass(frozen=True)
class AttributionMaps:
    """maps (N, h, w) float32, higher is more important; seconds per photograph, of all layers of a CAM together."""

    maps: Floats
    seconds: float


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, once each. Raises `SettingsError` that lists what there is."""
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    if unknown := [name for name in chosen if name not in NAMES]:
        raise SettingsError(f"--against: there is no {unknown[0]!r}", hint=f"choose from {', '.join(NAMES)}")
    return chosen


def attribution_methods(
    names: Sequence[str],
    target: AttributionTarget,
    images: Images,
    *,
    grid: int,
    predict: PredictMasked | None = None,
    tick: Tick | None = None,
) -> dict[tuple[str, str], AttributionMaps]:
    """(name, layer) -> maps of `images` (N, S, S, 3) at `grid` cells a side; the layer is "" where there is none.

    RISE needs `predict`, the masked predictor of the same classifier, and is left out without it. `tick` is called
    once per method.
    """
    found: dict[tuple[str, str], AttributionMaps] = {}
    for name in names:
        start = time.perf_counter()
        if name in CAMS:
            maps = cams(name, target, images, grid=grid)
        elif name == "ig":
            maps = {"": integrated_gradients(target, images, grid=grid)}
        else:
            maps = {"": rise(predict, images, target.referable, grid=grid)} if predict else {}
        seconds = (time.perf_counter() - start) / max(len(images), 1)
        found |= {(name, layer): AttributionMaps(m, seconds) for layer, m in maps.items()}
        if tick is not None:
            tick()
    return found
