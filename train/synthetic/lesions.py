"""The four lesions of diabetic retinopathy on a synthetic eye, their opacity maps, and the rule of the grade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medtex_edge.train.synthetic.canvas import Canvas, Drawing, Floats, Points, outline

GRADES = 5


@dataclass(frozen=True)
class Counts:
    """The number of lesions of each kind in an eye; `quadrants` (0..4) around the fovea have haemorrhages."""

    microaneurysms: int = 0
    haemorrhages: int = 0
    quadrants: int = 0
    hard_exudates: int = 0
    soft_exudates: int = 0


def grade_of(counts: Counts) -> int:
    """The grade of an eye by the written rule, loosely after the International Clinical Diabetic Retinopathy scale.

    - 4: 18 haemorrhages or more
    - 3: 8 haemorrhages or more, in at least 3 quadrants; or any soft exudate
    - 2: any haemorrhage or hard exudate
    - 1: microaneurysms alone
    - 0: none of these
    """
    if counts.haemorrhages >= 18:
        return 4
    if (counts.haemorrhages >= 8 and counts.quadrants >= 3) or counts.soft_exudates:
        return 3
    if counts.haemorrhages or counts.hard_exudates:
        return 2
    return 1 if counts.microaneurysms else 0


@dataclass(frozen=True)
class Ground:
    """The possible places of lesions, in units: in the field of view, between `top` and `bottom`, outside the disc."""

    disc: Points
    fovea: Points
    disc_radius: float
    top: float
    bottom: float
    vessels: Floats  # (S, S) float32 in 0..1: a microaneurysm on a vessel would be invisible

    def place(self, random: np.random.Generator, canvas: Canvas, quadrant: int | None, bare: bool) -> Points | None:
        """A free place (2,), or None after 200 attempts; `quadrant`: 0..3 around the fovea; `bare`: not on a vessel."""
        for _ in range(200):
            angle, radius = random.uniform(0, 2 * np.pi), 0.44 * np.sqrt(random.random())
            point: Points = np.array([np.cos(angle), np.sin(angle)]) * radius
            if not self.top + 0.03 < point[1] < self.bottom - 0.03:
                continue
            if np.linalg.norm(point - self.disc) < 1.35 * self.disc_radius:
                continue
            if quadrant is not None and self.quadrant(point) != quadrant:
                continue
            column, row = (point * canvas.diameter + canvas.size / 2).astype(int)
            if not bare or self.vessels[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].max() < 0.15:
                return point
        return None

    def quadrant(self, point: Points) -> int:
        return int(point[0] > self.fovea[0]) + 2 * int(point[1] > self.fovea[1])


@dataclass(frozen=True)
class LesionMaps:
    """Opacity of each kind, (S, S) float32 in 0..1, and the number of lesions."""

    opacity: dict[str, Floats]
    counts: Counts


def draw_lesions(random: np.random.Generator, canvas: Canvas, ground: Ground, grade: int) -> LesionMaps:
    """Draw lesions whose counts give `grade` by the rule."""
    # The first attempt nearly always succeeds, unless a haemorrhage finds no place in its quadrant.
    for _ in range(100):
        maps = _attempt(random, canvas, ground, grade)
        if grade_of(maps.counts) == grade:
            return maps
    raise RuntimeError(f"no place for the lesions of grade {grade}")


def _attempt(random: np.random.Generator, canvas: Canvas, ground: Ground, grade: int) -> LesionMaps:
    wanted = _wanted(random, grade)
    fine = {kind: canvas.fine() for kind in ("MA", "HE", "EX", "SE")}
    small = sum(_microaneurysm(random, canvas, ground, fine["MA"]) for _ in range(wanted.microaneurysms))
    start = int(random.integers(4))
    quadrants = set()
    blots = 0
    for index in range(wanted.haemorrhages):
        quadrant = (start + index) % 4 if index < wanted.quadrants else None
        point = ground.place(random, canvas, quadrant, bare=False)
        if point is not None:
            _haemorrhage(random, canvas, ground, fine["HE"], point)
            quadrants.add(ground.quadrant(point))
            blots += 1
    specks = 0
    for _ in range(20):
        if specks < wanted.hard_exudates:
            specks += _cluster(random, canvas, ground, fine["EX"], min(wanted.hard_exudates - specks, 18))
    soft = sum(_soft_exudate(random, canvas, ground, fine["SE"]) for _ in range(wanted.soft_exudates))
    opacity = {kind: canvas.coarse(drawn) for kind, drawn in fine.items()}
    opacity["SE"] = canvas.blur(opacity["SE"], 0.0045)
    return LesionMaps(opacity, Counts(small, blots, len(quadrants), specks, soft))


def _wanted(random: np.random.Generator, grade: int) -> Counts:
    def between(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    exudates = between(8, 45) if random.random() < 0.6 else 0
    if grade == 0:
        return Counts()
    if grade == 1:
        return Counts(between(3, 9))
    if grade == 2:
        blots = between(2, 7) if random.random() < 0.8 or not exudates else 0
        return Counts(between(3, 12), blots, 0, exudates)
    if grade == 3 and random.random() < 0.6:
        return Counts(between(6, 16), between(9, 15), 4, exudates, between(0, 2))
    if grade == 3:
        return Counts(between(4, 14), between(2, 9), 0, exudates, between(1, 4))
    return Counts(between(8, 25), between(20, 38), 4, exudates, between(0, 4))


def _microaneurysm(random: np.random.Generator, canvas: Canvas, ground: Ground, fine: Drawing) -> bool:
    point = ground.place(random, canvas, None, bare=True)
    if point is None:
        return False
    shape = outline(random, point, random.uniform(0.0030, 0.0052), ragged=0.08, corners=10)
    canvas.fill(fine, shape, int(random.integers(170, 256)))
    return True


def _haemorrhage(random: np.random.Generator, canvas: Canvas, ground: Ground, fine: Drawing, point: Points) -> None:
    """Draw a dot-blot, or a flame along the nerve fibres, which run from the disc like field lines."""
    radius = 0.008 + 0.016 * random.beta(1.3, 2.2)
    depth = int(random.integers(130, 256))  # fresh blood is dark, old blood fades
    if random.random() < 0.35:
        away = point - ground.disc
        angle = np.arctan2(away[1], away[0]) + random.normal(0, 0.25)
        for _ in range(3):
            part = point + random.normal(0, radius * 0.5, 2)
            shape = outline(random, part, radius * 0.9, ragged=0.15, corners=16, stretch=1.7, angle=angle)
            canvas.fill(fine, shape, depth)
        return
    canvas.fill(fine, outline(random, point, radius, ragged=0.16, corners=14), depth)
    for _ in range(int(random.integers(0, 3))):
        part = point + random.normal(0, radius * 0.8, 2)
        canvas.fill(fine, outline(random, part, radius * 0.6, ragged=0.2, corners=12), depth)


def _cluster(random: np.random.Generator, canvas: Canvas, ground: Ground, fine: Drawing, count: int) -> int:
    """Draw hard exudates, sharp waxy specks in a heap or along a ring; -> the number of specks."""
    centre = ground.place(random, canvas, None, bare=False)
    if centre is None:
        return 0
    spread = random.uniform(0.015, 0.045)
    ring = random.random() < 0.35
    drawn = 0
    for _ in range(count):
        if ring:
            angle = random.uniform(0, 1.6 * np.pi)
            point = centre + np.array([np.cos(angle), np.sin(angle)]) * spread * random.normal(1.4, 0.15)
        else:
            point = centre + random.normal(0, spread * 0.7, 2)
        if np.linalg.norm(point) > 0.46 or not ground.top + 0.01 < point[1] < ground.bottom - 0.01:
            continue
        if np.linalg.norm(point - ground.disc) < 1.2 * ground.disc_radius:
            continue
        radius = 0.0028 + 0.0065 * random.beta(1.2, 3)
        canvas.fill(fine, outline(random, point, radius, ragged=0.25, corners=8, stretch=random.uniform(1, 1.4)))
        drawn += 1
    return drawn


def _soft_exudate(random: np.random.Generator, canvas: Canvas, ground: Ground, fine: Drawing) -> bool:
    """Draw a cotton-wool spot of a few overlapping pale lobes, which are blurred later; -> whether it found a place."""
    point = ground.place(random, canvas, None, bare=False)
    if point is None:
        return False
    radius = random.uniform(0.012, 0.024)
    for _ in range(int(random.integers(3, 6))):
        part = point + random.normal(0, radius * 0.5, 2)
        canvas.fill(fine, outline(random, part, radius * random.uniform(0.5, 0.9), ragged=0.12, corners=12))
    return True
