"""One synthetic photograph: an eye with the lesions of a grade, photographed by a synthetic camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtex_edge.errors import SettingsError
from medtex_edge.image.photo import Image
from medtex_edge.train.data.lesions import LESIONS
from medtex_edge.train.synthetic.camera import Camera, develop, draw_camera, expose, frame
from medtex_edge.train.synthetic.canvas import Canvas, Floats
from medtex_edge.train.synthetic.eye import draw_anatomy, ground_colour, paint_eye
from medtex_edge.train.synthetic.lesions import GRADES, Counts, Ground, draw_lesions
from medtex_edge.train.synthetic.vessels import draw_tree

MIN_SIZE, MAX_SIZE = 96, 2048  # pixels
GRADE_SHARES = (0.30, 0.14, 0.24, 0.18, 0.14)  # of the grades 0..4
_VISIBLE = 0.25  # opacity from which on a pixel belongs to the mask of a lesion

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """A photograph and its ground truth: image (H, W, 3) uint8 RGB; masks: kind of `KINDS` -> (H, W) bool."""

    image: Image
    masks: dict[str, Mask]
    grade: int
    counts: Counts
    quality: int  # of the JPEG, 1..100


@dataclass(frozen=True)
class ExposedEye:
    """The image of an eye on the sensor, before framing and noise.

    light: (S, S, 3) float32; masks: kind of `KINDS` -> (S, S) bool; grain: the generator of the noise.
    """

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
    """Render one photograph, at most `size` pixels high. Equal arguments give equal pixels.

    `grade` is drawn where it is None. Eyes with the same `patient` (a seed) have the same ground colour. Raises
    `SettingsError`.
    """
    eye = expose_eye(seed, size=size, grade=grade, left=left, patient=patient)
    top, bottom, sides = frame(eye.camera, eye.canvas)
    margins = ((0, 0), (sides, sides))
    light = np.pad(eye.light[top:bottom], (*margins, (0, 0)), constant_values=np.float32(eye.camera.dark))
    masks = {kind: np.pad(mask[top:bottom], margins) for kind, mask in eye.masks.items()}
    image = develop(eye.grain, eye.camera, light)
    return Scene(image, masks, eye.grade, eye.counts, eye.camera.quality)


def expose_eye(
    seed: int | Sequence[int],
    *,
    size: int,
    grade: int | None = None,
    left: bool = False,
    patient: Sequence[int] | None = None,
) -> ExposedEye:
    """Draw and expose an eye; eye, lesions and camera come from separate random streams and are independent."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise SettingsError(f"size: expected {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if grade is not None and not 0 <= grade < GRADES:
        raise SettingsError(f"grade: expected 0 to {GRADES - 1}, got {grade}")
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)]
    for_grade, for_anatomy, for_colour, for_paint, for_camera, for_lesions, grain = streams
    if patient is not None:
        for_colour = np.random.default_rng(patient)
    if grade is None:
        grade = int(for_grade.choice(GRADES, p=GRADE_SHARES))
    camera = draw_camera(for_camera)
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
    return ExposedEye(canvas, camera, expose(canvas, camera, scene), masks, grade, lesions.counts, grain)
