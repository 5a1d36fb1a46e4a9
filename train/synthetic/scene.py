"""One synthetic photograph: an eye with lesions of a wanted grade, in front of a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import SettingsError
from medtex_edge.image.photo import Image
from medtex_edge.train.data.lesions import LESIONS
from medtex_edge.train.synthetic.camera import Camera, develop, expose, frame, take_camera
from medtex_edge.train.synthetic.canvas import Canvas, Floats
from medtex_edge.train.synthetic.eye import draw_anatomy, ground_colour, paint_eye
from medtex_edge.train.synthetic.lesions import GRADES, Counts, Ground, draw_lesions
from medtex_edge.train.synthetic.vessels import draw_tree

MIN_SIZE, MAX_SIZE = 96, 2048  # pixels
SHARES = (0.30, 0.14, 0.24, 0.18, 0.14)  # of the grades 0..4, where none is wanted
_VISIBLE = 0.25  # opacity from which a pixel belongs to a lesion's mask

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """image (H, W, 3) uint8 RGB; masks: each kind of `lesions.KINDS` -> (H, W) bool; what was drawn, its grade."""

    image: Image
    masks: dict[str, Mask]
    grade: int
    counts: Counts
    quality: int  # for saving the image as JPEG


@dataclass(frozen=True)
class Subject:
    """An eye as it reaches the sensor, before framing and noise. `light` (S, S, 3), masks (S, S)."""

    canvas: Canvas
    camera: Camera
    light: Floats
    masks: dict[str, Mask]
    grade: int
    counts: Counts
    grain: np.random.Generator


def render(
    seed: int | Sequence[int],
    *,
    size: int = 320,
    grade: int | None = None,
    left: bool = False,
    patient: Sequence[int] | None = None,
) -> Scene:
    """One photograph, at most `size` pixels high. Equal arguments give equal pixels.

    `grade` is drawn where it is None. Eyes with an equal `patient` (a seed) share the ground's colour.
    """
    subject = sit(seed, size=size, grade=grade, left=left, patient=patient)
    top, bottom, sides = frame(subject.camera, subject.canvas)
    beside = ((0, 0), (sides, sides))
    light = np.pad(subject.light[top:bottom], (*beside, (0, 0)), constant_values=np.float32(subject.camera.dark))
    masks = {kind: np.pad(mask[top:bottom], beside) for kind, mask in subject.masks.items()}
    image = develop(subject.grain, subject.camera, light)
    return Scene(image, masks, subject.grade, subject.counts, subject.camera.quality)


def sit(
    seed: int | Sequence[int],
    *,
    size: int,
    grade: int | None = None,
    left: bool = False,
    patient: Sequence[int] | None = None,
) -> Subject:
    """Draw eye, lesions and camera from separate random streams, so that none tells of another."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise SettingsError(f"size: expected {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if grade is not None and not 0 <= grade < GRADES:
        raise SettingsError(f"grade: expected 0 to {GRADES - 1}, got {grade}")
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)]
    for_grade, for_anatomy, for_colour, for_paint, for_camera, for_lesions, grain = streams
    if patient is not None:
        for_colour = np.random.default_rng(patient)
    if grade is None:
        grade = int(for_grade.choice(GRADES, p=SHARES))
    camera = take_camera(for_camera)
    canvas = Canvas(size, camera.diameter * size)
    anatomy = draw_anatomy(for_anatomy, left)
    vessels = draw_tree(canvas, anatomy.vessels)
    blocked = np.maximum(vessels.veins, vessels.arteries)
    ground = Ground(anatomy.disc, anatomy.fovea, anatomy.disc_radius, -camera.cut, camera.cut, blocked)
    lesions = draw_lesions(for_lesions, canvas, ground, grade)
    scene = paint_eye(for_paint, canvas, anatomy, vessels, ground_colour(for_colour), lesions)
    x, y = canvas.grid()
    inside = x * x + y * y < 0.25
    masks: dict[str, Mask] = {kind: (lesions.opacity[kind] >= _VISIBLE) & inside for kind in LESIONS}
    masks["ALL"] = np.maximum.reduce([masks[kind] for kind in LESIONS])
    far = (x - np.float32(anatomy.disc[0])) ** 2 + (y - np.float32(anatomy.disc[1])) ** 2
    masks["OD"] = (far < anatomy.disc_radius**2) & inside
    return Subject(canvas, camera, expose(canvas, camera, scene), masks, grade, lesions.counts, grain)
