"""A synthetic fundus camera: uneven light, haze, the edge of the field of view, blur, noise, and JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from medtex_edge.image.photo import Image
from medtex_edge.train.synthetic.canvas import Canvas, Floats

REFERENCE = 320  # pixels: the side at which a blur of one pixel is one pixel


@dataclass(frozen=True)
class Camera:
    """The parameters of one exposure. None depends on the lesions of the eye."""

    diameter: float  # of the field of view, as a fraction of the side of the square
    cut: float  # half the visible height in units: 0.5 shows the whole disc, less cuts top and bottom
    wide: float  # width over height of the photograph; the field of view has black margins
    tilt: tuple[float, float]  # brightness gained per unit towards the right, and the bottom
    falloff: float  # brightness lost at the edge
    haze: float  # scattered light, 0..1, which increases towards the edge
    gain: float
    gamma: float
    blur: float  # pixels at REFERENCE
    noise: float  # standard deviation in 0..1 at medium grey
    dark: float  # level of the border, 0..1
    notch: bool  # whether the edge has the small triangle of some cameras
    quality: int  # of the JPEG, 1..100


def draw_camera(random: np.random.Generator) -> Camera:
    """Draw the parameters of a camera, of its settings and of its operation."""
    angle, tilt = random.uniform(0, 2 * np.pi), random.uniform(0, 0.45)
    cut = 0.5 if random.random() < 0.4 else random.uniform(0.40, 0.47)
    return Camera(
        diameter=random.uniform(0.93, 0.985),
        cut=cut,
        wide=1.0 if random.random() < 0.35 else random.uniform(1.2, 1.5),
        tilt=(float(tilt * np.cos(angle)), float(tilt * np.sin(angle))),
        falloff=random.uniform(0.15, 0.5),
        haze=random.uniform(0, 0.12) if random.random() < 0.4 else 0.0,
        gain=random.uniform(0.85, 1.12),
        gamma=random.uniform(0.92, 1.15),
        blur=random.uniform(0.35, 1.15),
        noise=random.uniform(0.006, 0.020),
        dark=random.uniform(0, 0.025),
        notch=bool(random.random() < 0.4),
        quality=int(random.integers(80, 96)),
    )


def expose(canvas: Canvas, camera: Camera, scene: Floats) -> Floats:
    """Apply light, haze, edge and blur: (S, S, 3) float32 of the eye -> (S, S, 3) float32 on the sensor."""
    x, y = canvas.grid()
    squared = 4 * (x * x + y * y)  # 1 at the edge of the field of view
    light = camera.gain * (1 + camera.tilt[0] * x + camera.tilt[1] * y) * (1 - camera.falloff * squared**1.5)
    image = scene * light[..., None].astype(np.float32)
    veil = (camera.haze * np.minimum(squared, 1) ** 3)[..., None]
    image = image * (1 - veil) + veil * np.array([0.75, 0.78, 0.9], np.float32)
    pixels = camera.blur * canvas.size / REFERENCE
    image = cv2.GaussianBlur(image, (0, 0), pixels)
    edge = 1 / (1 + np.exp(np.clip((np.sqrt(squared) - 1) * 300, -30, 30)))
    if camera.notch:
        # A triangle just outside the edge, at the upper right, lit like the edge.
        corner = np.abs(x - 0.418) + np.abs(y + 0.285)
        edge = np.maximum(edge, (corner < 0.024).astype(np.float32))
    exposed = np.clip(image, 0, None) * edge[..., None] + camera.dark * (1 - edge[..., None])
    return np.asarray(exposed, np.float32)


def develop(random: np.random.Generator, camera: Camera, image: Floats) -> Image:
    """Apply gamma, a soft shoulder and sensor noise: (H, W, 3) float32 -> (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    toned = np.clip(image, 0, 1.5) ** np.float32(camera.gamma)
    toned = np.where(toned > 0.8, 0.8 + 0.2 * np.tanh((toned - 0.8) / 0.2), toned)
    grain = random.standard_normal((height, width, 3), np.float32)
    # Demosaicing smooths the noise of a sensor: neighbours share half of it.
    grain = 0.6 * grain + 0.9 * cv2.blur(grain, (2, 2))
    toned += grain * camera.noise * (0.25 + np.sqrt(np.clip(toned, 0, 1)))
    levels: Image = (np.clip(toned, 0, 1) * 255 + 0.5).astype(np.uint8)
    return levels


def frame(camera: Camera, canvas: Canvas) -> tuple[int, int, int]:
    """-> first and end row of the visible part of the square, and the number of black columns to add on each side."""
    half = canvas.size / 2
    if camera.cut >= 0.5:
        top, bottom = 0, canvas.size
    else:
        top, bottom = round(half - camera.cut * canvas.diameter), round(half + camera.cut * canvas.diameter)
    sides = max(0, round(((bottom - top) * camera.wide - canvas.size) / 2))
    return top, bottom, sides
