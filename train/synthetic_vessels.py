"""A retinal vessel tree: four trunks of artery and vein each, that leave the disc and arch around the macula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medtex_edge.train.synthetic_canvas import Canvas, Floats, Points

_STEP = 0.012  # units between the points of a path
_AVASCULAR = 0.055  # radius of the zone around the fovea that no vessel enters
_THINNEST = 0.0022


@dataclass(frozen=True)
class Vessel:
    """A path (N, 2) with its width at begin and end, in units."""

    path: Points
    begin: float
    end: float
    artery: bool


@dataclass(frozen=True)
class VesselMaps:
    """(S, S) float32 in 0..1 each: how much of a pixel is vein, artery, and the bright line along thick vessels."""

    veins: Floats
    arteries: Floats
    reflex: Floats


def grow_tree(random: np.random.Generator, disc: Points, fovea: Points) -> list[Vessel]:
    """All vessels of an eye, trunks and three generations of branches."""
    vessels: list[Vessel] = []
    side = np.sign(fovea[0] - disc[0])  # towards the macula
    size = random.uniform(0.85, 1.15)
    for artery in (False, True):
        for up in (-1.0, 1.0):
            width = size * (random.uniform(0.0075, 0.0095) if artery else random.uniform(0.0100, 0.0130))
            for path, share in ((_arcade(random, disc, fovea, up), 1.0), (_nasal(random, disc, -side, up), 0.7)):
                trunk = Vessel(path, width * share, width * share * 0.45, artery)
                vessels.append(trunk)
                vessels.extend(_branches(random, trunk, fovea, generation=1))
        for _ in range(int(random.integers(1, 4))):
            # Small vessels that leave the disc straight for the macula.
            angle = (0.0 if side > 0 else np.pi) + random.uniform(-0.7, 0.7)
            path = _wander(random, disc, angle, random.uniform(0.12, 0.26), 0.05)
            vessels.append(Vessel(_until_fovea(path, fovea), 0.0045, 0.0022, artery))
    return vessels


def _arcade(random: np.random.Generator, disc: Points, fovea: Points, up: float) -> Points:
    """From the disc, over or under the fovea, and beyond it slowly closing."""
    side = np.sign(fovea[0] - disc[0])
    distance = abs(fovea[0] - disc[0])
    along = np.arange(0, random.uniform(0.75, 0.95), _STEP)
    height = random.uniform(0.20, 0.28)
    rise = np.sqrt(np.minimum(along / distance, 1.6) + 0.002)
    closing = np.clip(along - distance * 1.1, 0, None) ** 2 * random.uniform(0.2, 0.9)
    axis = (fovea[1] - disc[1]) * np.clip(along / distance, 0, 1)
    wave = _smooth(random, len(along), 0.010)
    x = disc[0] + side * (along + _smooth(random, len(along), 0.006) - 0.01)
    y = disc[1] + axis + up * (height * rise - closing) + wave
    return np.stack([x, y], axis=1)


def _nasal(random: np.random.Generator, disc: Points, side: float, up: float) -> Points:
    angle = np.arctan2(up * random.uniform(0.8, 1.8), side)
    return _wander(random, disc, angle, random.uniform(0.35, 0.6), 0.03, bend=-0.012 * up * side)


def _branches(random: np.random.Generator, parent: Vessel, fovea: Points, generation: int) -> Iterator[Vessel]:
    """Side vessels at irregular distances on alternating sides, thinner and shorter with each generation."""
    if generation > 3:
        return
    steps = np.diff(parent.path, axis=0)
    spacing = (0.075, 0.06, 0.05)[generation - 1] / _STEP
    index = int(random.uniform(0.6, 1.4) * spacing) + (2 if generation == 1 else 0)
    hand = random.choice([-1.0, 1.0])
    while index < len(steps):
        width = np.interp(index / len(steps), [0, 1], [parent.begin, parent.end]) * random.uniform(0.5, 0.75)
        if width < _THINNEST * 0.75:
            return
        heading = np.arctan2(steps[index, 1], steps[index, 0]) + hand * random.uniform(0.5, 1.15)
        length = random.uniform(0.5, 1.1) * (0.26, 0.15, 0.08)[generation - 1]
        path = _wander(random, parent.path[index], heading, length, 0.06, bend=-0.02 * hand)
        path = _until_fovea(path, fovea)
        if len(path) > 3:
            child = Vessel(path, max(width, _THINNEST), max(width * 0.5, _THINNEST * 0.7), parent.artery)
            yield child
            yield from _branches(random, child, fovea, generation + 1)
        hand = -hand if random.random() < 0.8 else hand
        index += max(2, int(random.uniform(0.5, 1.5) * spacing))


def _wander(
    random: np.random.Generator, start: Points, heading: float, length: float, turn: float, bend: float = 0.0
) -> Points:
    """A path whose heading drifts: correlated turns of deviation `turn` radians a step, and a steady `bend`."""
    count = max(4, int(length / _STEP))
    turns = np.convolve(random.standard_normal(count + 4), np.full(5, 0.2), "valid") * turn * 2
    headings = heading + np.cumsum(turns + bend)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * _STEP
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)])


def _smooth(random: np.random.Generator, count: int, deviation: float) -> Points:
    knots = random.standard_normal(max(3, count // 9))
    knots[0] = 0
    where = np.linspace(0, len(knots) - 1, count)
    rough = np.interp(where, np.arange(len(knots)), knots)
    kernel = np.hanning(11)
    return np.convolve(np.pad(rough, 5, "edge"), kernel / kernel.sum(), "valid") * deviation


def _until_fovea(path: Points, fovea: Points) -> Points:
    inside = np.flatnonzero(np.linalg.norm(path - fovea, axis=1) < _AVASCULAR)
    return path[: inside[0]] if len(inside) else path


def draw_tree(canvas: Canvas, vessels: list[Vessel]) -> VesselMaps:
    """Thin vessels are drawn fainter, since they let light through."""
    veins, arteries, reflex = canvas.fine(), canvas.fine(), canvas.fine()
    for vessel in sorted(vessels, key=lambda vessel: vessel.begin):
        pieces = 4 if vessel.begin > 0.005 else 2
        cuts = np.linspace(0, len(vessel.path) - 1, pieces + 1).astype(int)
        for number, (begin, end) in enumerate(pairwise(cuts)):
            width = np.interp((number + 0.5) / pieces, [0, 1], [vessel.begin, vessel.end])
            part = vessel.path[begin : end + 1]
            depth = int(255 * np.clip(0.35 + width / 0.010, 0, 1))
            canvas.line(arteries if vessel.artery else veins, part, width, depth)
            if width > 0.005:
                canvas.line(reflex, part, width * 0.3, 255 if vessel.artery else 110)
    return VesselMaps(*(canvas.coarse(fine) for fine in (veins, arteries, reflex)))
