"""The synthetic vessel tree: four trunks each of arteries and veins, from the disc in arcs around the macula."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medtex_edge.train.synthetic.canvas import Canvas, Floats, Points

_STEP = 0.012  # units between the points of a path
_AVASCULAR = 0.055  # radius of the zone around the fovea that no vessel enters
_THINNEST = 0.0022


@dataclass(frozen=True)
class Vessel:
    """A vessel: its path (N, 2) float64 and its width at begin and end, in units (see `canvas`)."""

    path: Points
    begin: float
    end: float
    artery: bool


@dataclass(frozen=True)
class VesselMaps:
    """The fraction of each pixel, (S, S) float32 in 0..1, of vein, artery, and the bright line along thick vessels."""

    veins: Floats
    arteries: Floats
    reflex: Floats


def grow_tree(random: np.random.Generator, disc: Points, fovea: Points) -> list[Vessel]:
    """Draw the vessels of an eye: trunks and three generations of branches. disc, fovea: (2,) float64, in units."""
    vessels: list[Vessel] = []
    side = float(np.sign(fovea[0] - disc[0]))  # towards the macula
    size = random.uniform(0.85, 1.15)
    for artery in (False, True):
        for up in (-1.0, 1.0):
            width = size * (random.uniform(0.0072, 0.0092) if artery else random.uniform(0.0095, 0.0125))
            for path, share in ((_arcade(random, disc, fovea, up), 1.0), (_nasal(random, disc, -side, up), 0.65)):
                trunk = Vessel(path, width * share, width * share * 0.4, artery)
                vessels.append(trunk)
                vessels.extend(_branches(random, trunk, disc, fovea, generation=1))
        for _ in range(int(random.integers(1, 4))):
            # Small vessels run straight from the disc to the macula.
            angle = (0.0 if side > 0 else math.pi) + random.uniform(-0.8, 0.8)
            path = _wander(random, disc, angle, random.uniform(0.14, 0.28), disc)
            vessels.append(Vessel(_until_fovea(path, fovea), 0.0042, 0.0022, artery))
    return vessels


def _arcade(random: np.random.Generator, disc: Points, fovea: Points, up: float) -> Points:
    """An arcade, (N, 2): steeply up or down from the disc, over or under the fovea, and slowly closing beyond it."""
    side = np.sign(fovea[0] - disc[0])
    distance = abs(fovea[0] - disc[0])
    along = np.arange(0, random.uniform(0.75, 0.95), _STEP)
    height = random.uniform(0.21, 0.31)
    rise = np.minimum(along / distance, 1.5) ** random.uniform(0.36, 0.5)
    closing = np.clip(along - distance * 1.2, 0, None) ** 2 * random.uniform(-0.3, 0.9)
    axis = (fovea[1] - disc[1]) * np.clip(along / distance, 0, 1)
    x = disc[0] + side * (along - 0.02 + _smooth(random, len(along), 0.008))
    y = disc[1] + axis + up * (height * rise - closing) + _smooth(random, len(along), 0.014)
    return _even(np.stack([x, y], axis=1))


def _nasal(random: np.random.Generator, disc: Points, side: float, up: float) -> Points:
    angle = math.atan2(up * random.uniform(0.9, 2.2), side)
    return _wander(random, disc, angle, random.uniform(0.4, 0.6), disc)


def _branches(
    random: np.random.Generator, parent: Vessel, disc: Points, fovea: Points, generation: int
) -> Iterator[Vessel]:
    """Yield side vessels at irregular distances on alternating sides, and a fork at the end, thinner per generation."""
    if generation > 3 or len(parent.path) < 4:
        return
    steps = np.diff(parent.path, axis=0)
    spacing = (0.095, 0.085, 0.07)[generation - 1] / _STEP
    reach = (0.34, 0.18, 0.08)[generation - 1]
    hand = float(random.choice([-1.0, 1.0]))
    places = []
    index = int(random.uniform(0.5, 1.3) * spacing) + (3 if generation == 1 else 0)
    while index < len(steps) - 2:
        places.append((index, hand * random.uniform(0.55, 1.1), random.uniform(0.45, 0.72)))
        hand = -hand if random.random() < 0.8 else hand
        index += max(2, int(random.uniform(0.5, 1.6) * spacing))
    spread = random.uniform(0.25, 0.45)
    places += [(len(steps) - 1, spread, 0.9), (len(steps) - 1, -spread * random.uniform(0.7, 1.3), 0.75)]
    for index, turn, share in places:
        width = float(np.interp(index / len(steps), [0, 1], [parent.begin, parent.end])) * share
        if width < _THINNEST:
            continue
        heading = math.atan2(steps[index, 1], steps[index, 0]) + turn
        path = _wander(random, parent.path[index], heading, reach * random.uniform(0.4, 1.1), disc)
        child = Vessel(
            _until_fovea(path, fovea), max(width, _THINNEST), max(width * 0.5, _THINNEST * 0.7), parent.artery
        )
        if len(child.path) > 3:
            yield child
            yield from _branches(random, child, disc, fovea, generation + 1)


def _wander(random: np.random.Generator, start: Points, heading: float, length: float, disc: Points) -> Points:
    """A tortuous path, (N, 2), which in general leads away from the disc."""
    count = max(4, int(length / _STEP))
    turns = np.convolve(random.standard_normal(count + 2), [0.05, 0.11, 0.07], "valid")
    (x, y), (disc_x, disc_y) = start.tolist(), disc.tolist()
    path = [(x, y)]
    for turn in turns.tolist():
        away = math.atan2(y - disc_y, x - disc_x)
        heading += turn + (0.06 * math.sin(away - heading) if len(path) > 2 else 0.0)
        x, y = x + _STEP * math.cos(heading), y + _STEP * math.sin(heading)
        path.append((x, y))
    return np.array(path)


def _even(path: Points) -> Points:
    """The same path, (N, 2), with its points `_STEP` apart."""
    far = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    where = np.arange(0, far[-1], _STEP)
    return np.stack([np.interp(where, far, path[:, 0]), np.interp(where, far, path[:, 1])], axis=1)


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
    """Draw the vessels into maps. Thin vessels are fainter, since they transmit light."""
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
