"""A synthetic eye without its lesions: ground colour, choroid, disc, vessels, macula, and harmless spots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medtex_edge.train.synthetic.canvas import Canvas, Drawing, Floats, Points, bump, outline
from medtex_edge.train.synthetic.lesions import LesionMaps
from medtex_edge.train.synthetic.vessels import Vessel, VesselMaps, grow_tree

# Ground colours (R, G, B in 0..1) between which eyes and cameras vary: orange, red, brown, pale, dark.
_GROUNDS = np.array(
    [[0.84, 0.40, 0.08], [0.78, 0.33, 0.17], [0.60, 0.33, 0.16], [0.76, 0.50, 0.36], [0.52, 0.23, 0.09]]
)
# Optical density of blood, pigment and deposits per channel.
_VEIN = np.array([0.40, 1.05, 0.75], np.float32)
_ARTERY = np.array([0.16, 0.72, 0.62], np.float32)
_BLOOD = np.array([0.62, 1.45, 1.10], np.float32)
_MACULA = np.array([0.35, 0.62, 0.55], np.float32)
_FAT = np.array([1.00, 0.90, 0.42], np.float32)  # hard exudates, before the illumination
_COTTON = np.array([0.97, 0.90, 0.74], np.float32)


@dataclass(frozen=True)
class Anatomy:
    """The position of disc, fovea and vessels in one eye, in units (see `canvas`); points are (2,) float64."""

    disc: Points
    disc_radius: float
    cup: float  # cup-to-disc ratio
    fovea: Points
    vessels: list[Vessel]


def draw_anatomy(random: np.random.Generator, left: bool) -> Anatomy:
    """Draw the anatomy of an eye. A right eye has its disc on the right of the photograph, a left eye on the left."""
    side = -1.0 if left else 1.0
    fovea = np.array([side * random.uniform(-0.13, 0.02), random.uniform(-0.04, 0.05)])
    disc = fovea + np.array([side * random.uniform(0.31, 0.35), random.uniform(-0.05, 0.005)])
    vessels = grow_tree(random, disc, fovea)
    return Anatomy(disc, random.uniform(0.060, 0.074), random.uniform(0.28, 0.6), fovea, vessels)


def ground_colour(random: np.random.Generator) -> Floats:
    """Draw the fundus colour of a patient, (3,) float32 RGB in 0..1."""
    share = random.dirichlet(np.full(len(_GROUNDS), 0.6))
    colour: Floats = (share @ _GROUNDS * random.uniform(0.88, 1.1, 3)).astype(np.float32)
    return colour


def paint_eye(
    random: np.random.Generator, canvas: Canvas, anatomy: Anatomy, vessels: VesselMaps, ground: Floats,
    lesions: LesionMaps,
) -> Floats:  # fmt: skip
    """Paint an eye under even light, (S, S, 3) float32 of about 0..1. Equal `random` gives equal eyes with any lesions.

    vessels, lesions: maps (S, S) float32 in 0..1; ground: (3,) float32.
    """
    x, y = canvas.grid()
    density = _choroid(random, canvas)[..., None] * np.array([0.5, 1.0, 1.1], np.float32)
    macula = bump(x, y, anatomy.fovea, random.uniform(0.055, 0.085)) * random.uniform(0.45, 0.95)
    macula += bump(x, y, anatomy.fovea, random.uniform(0.012, 0.022)) * random.uniform(0.2, 0.6)
    density += macula[..., None] * _MACULA
    density += random.uniform(-0.28, -0.05) * bump(x, y, anatomy.disc, 0.13, 1.4)[..., None]
    image = ground * np.exp(-density)
    image = _drusen(random, canvas, image, anatomy)
    image = _disc(random, canvas, image, anatomy, x, y)
    strength = random.uniform(0.75, 1.25)
    image = image * np.exp(-strength * (vessels.veins[..., None] * _VEIN + vessels.arteries[..., None] * _ARTERY))
    image += (
        (vessels.reflex * random.uniform(0.04, 0.22))[..., None] * np.array([1.0, 0.75, 0.6], np.float32) * ground.max()
    )
    image = _reflexes(random, canvas, image, anatomy)
    return _add_lesions(image, lesions, ground)


def _add_lesions(image: Floats, lesions: LesionMaps, ground: Floats) -> Floats:
    opacity = lesions.opacity
    blood = np.maximum(opacity["HE"], opacity["MA"])
    image = image * np.exp(-blood[..., None] * _BLOOD)
    # Lesions have the illumination of the ground around them.
    light = 0.55 + 0.5 * float(ground.max())
    for kind, colour, most in (("SE", _COTTON, 0.72), ("EX", _FAT, 0.92)):
        alpha = (opacity[kind] * np.float32(most))[..., None]
        image = image * (1 - alpha) + alpha * colour * np.float32(light)
    return np.asarray(image, np.float32)


def _choroid(random: np.random.Generator, canvas: Canvas) -> Floats:
    """Optical density of pigment, (S, S) float32: cloudy, mottled, in some eyes with visible choroidal vessels."""
    cloud = canvas.noise(random, 4) * random.uniform(0.02, 0.08) + canvas.noise(random, 11) * 0.02
    fine = canvas.noise(random, 60) * 0.018 + canvas.noise(random, 120) * 0.012
    ridges = 1 - np.minimum(1, np.abs(canvas.noise(random, 16) + 0.5 * canvas.noise(random, 30)) * 1.6)
    tessellated = random.uniform(0.06, 0.22) if random.random() < 0.3 else random.uniform(0, 0.03)
    patch = 1 / (1 + np.exp(-2 * canvas.noise(random, 3)))
    return np.asarray(cloud + fine - tessellated * ridges * patch, np.float32)


def _disc(random: np.random.Generator, canvas: Canvas, image: Floats, anatomy: Anatomy, x: Floats, y: Floats) -> Floats:
    """Add the optic disc: pale orange rim, paler cup, soft edge; in some eyes with a dark or pale crescent."""
    radius, aspect = anatomy.disc_radius, random.uniform(1.02, 1.15)
    dx, dy = x - np.float32(anatomy.disc[0]), (y - np.float32(anatomy.disc[1])) / np.float32(aspect)
    side = float(np.sign(anatomy.fovea[0] - anatomy.disc[0]))
    far = np.sqrt(dx * dx + dy * dy)
    soft = random.uniform(0.002, 0.006)
    if random.random() < 0.35:
        crescent = _within(np.sqrt((dx - side * 0.012) ** 2 + dy * dy), radius * 1.06, 0.005)
        image = image * (1 + (crescent * random.uniform(-0.25, 0.3))[..., None])
    rim = np.array([1.0, random.uniform(0.60, 0.78), random.uniform(0.28, 0.50)], np.float32)
    bright = random.uniform(0.80, 1.05) * (0.55 + 0.55 * float(image.max()))
    redder = (0.10 * dx / radius * side)[..., None] * np.array([0.0, 1.0, 1.0], np.float32)
    inside = _within(far, radius, soft)[..., None]
    image = image * (1 - inside) + inside * bright * (rim + redder)
    cup_far = np.sqrt((dx - side * radius * 0.12) ** 2 + dy * dy)
    cup = (_within(cup_far, radius * anatomy.cup, radius * 0.09) * random.uniform(0.5, 0.9))[..., None]
    pale = np.array([1.0, 0.93, 0.74], np.float32)
    return np.asarray(image * (1 - cup) + cup * np.minimum(1.0, bright * 1.08) * pale, np.float32)


def _within(far: Floats, radius: float, soft: float) -> Floats:
    value: Floats = (1 / (1 + np.exp(np.clip((far - radius) / soft, -30, 30)))).astype(np.float32)
    return value


def _drusen(random: np.random.Generator, canvas: Canvas, image: Floats, anatomy: Anatomy) -> Floats:
    """Add faint pale and brown spots, which are harmless and occur in eyes of every grade."""
    pale, brown = canvas.fine(), canvas.fine()
    count = int(random.integers(3, 16)) if random.random() < 0.4 else 0
    for _ in range(count):
        point = anatomy.fovea + random.normal(0, 0.12, 2)
        canvas.fill(pale, outline(random, point, random.uniform(0.004, 0.011), ragged=0.1, corners=10))
    for _ in range(int(random.integers(0, 4))):
        point = random.uniform(-0.36, 0.36, 2)
        canvas.fill(brown, outline(random, point, random.uniform(0.006, 0.022), ragged=0.15, corners=12))
    glow = canvas.blur(canvas.coarse(pale), 0.0045) * random.uniform(0.10, 0.28)
    shade = canvas.blur(canvas.coarse(brown), 0.006) * random.uniform(0.08, 0.28)
    image = image * (1 + glow[..., None] * np.array([0.5, 1.0, 0.8], np.float32))
    # Brown absorbs all colours equally, unlike blood, which hardly absorbs red.
    return np.asarray(image * (1 - shade[..., None] * np.array([1.0, 0.9, 0.8], np.float32)), np.float32)


def _reflexes(random: np.random.Generator, canvas: Canvas, image: Floats, anatomy: Anatomy) -> Floats:
    """Add silvery streaks along the arcades and a dot in the fovea, as in young eyes."""
    drawn: Drawing = canvas.fine()
    young = random.random() < 0.4
    trunks = [vessel for vessel in anatomy.vessels if vessel.begin > 0.007]
    for _ in range(int(random.integers(4, 14)) if young else 0):
        path = trunks[int(random.integers(len(trunks)))].path
        begin = int(random.integers(5, max(6, len(path) - 8)))
        part = path[begin : begin + int(random.integers(2, 6))] + random.normal(0, 0.012, 2)
        canvas.line(drawn, part, random.uniform(0.003, 0.008))
    if young and random.random() < 0.7:
        canvas.fill(drawn, outline(random, anatomy.fovea, 0.005, ragged=0.1, corners=8))
    shine = canvas.blur(canvas.coarse(drawn), 0.004) * random.uniform(0.08, 0.25)
    return np.asarray(image + shine[..., None] * np.array([0.85, 0.9, 0.85], np.float32), np.float32)
