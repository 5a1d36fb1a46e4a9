"""The tables of docs/explanation/verdict.md: the quality gate on real photographs and on degraded copies of them.

python -m benchmarks.quality_table ../shared/data/idrid ../shared/data/idrid_lesions
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.errors import MedtexError
from medtex_edge.image.geometry import prepare
from medtex_edge.image.photo import SUFFIXES, read_photo
from medtex_edge.runtime.quality import gate

Photo = npt.NDArray[np.uint8]
METRICS = ("brightness", "grey", "clipped", "sharpness", "coverage")


def _blurred(sigma: float) -> Callable[[Photo], Photo]:
    return lambda photo: cv2.GaussianBlur(photo, (0, 0), sigma)


def _jpeg(level: int) -> Callable[[Photo], Photo]:
    def degrade(photo: Photo) -> Photo:
        _, data = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, level])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None, "it was encoded a line above"
        return np.ascontiguousarray(decoded[..., ::-1])

    return degrade


def _scaled(factor: float, plus: float = 0.0) -> Callable[[Photo], Photo]:
    def degrade(photo: Photo) -> Photo:
        lit = photo.max(axis=2, keepdims=True) > 10
        return np.asarray(np.clip(photo * np.float32(factor) + plus * lit, 0, 255), np.uint8)

    return degrade


def _noisy(photo: Photo) -> Photo:
    noise = np.random.default_rng(0).normal(0, 2, photo.shape)
    return np.clip(photo + noise, 0, 255).astype(np.uint8)


DEGRADED: dict[str, Callable[[Photo], Photo]] = {
    "as they are": lambda photo: photo,
    "JPEG quality 30": _jpeg(30),
    "noise of 2 levels": _noisy,
    "blurred, sigma 2": _blurred(2),
    "blurred, sigma 3": _blurred(3),
    "blurred, sigma 4": _blurred(4),
    "blurred, sigma 6": _blurred(6),
    "blurred, sigma 6, then noise of 2 levels": lambda photo: _noisy(_blurred(6)(photo)),
    "blurred, sigma 6, then JPEG quality 50": lambda photo: _jpeg(50)(_blurred(6)(photo)),
    "darkened 3 times": _scaled(1 / 3),
    "darkened 5 times": _scaled(1 / 5),
    "brightened 3 times": _scaled(3),
    "brightened 3 times, plus 40": _scaled(3, 40),
    "brightened by 120 levels": _scaled(1, 120),
}


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--side", default=224, show_default=True, help="Pixels of the model's input.")
def main(folders: tuple[Path, ...], side: int) -> None:
    """Print for each degradation how many photographs of FOLDERS pass, and the range of every metric.

    \b
    Example:
      python -m benchmarks.quality_table ../shared/data/idrid ../shared/data/idrid_lesions
    """
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    photos = [read_photo(path) for path in paths if "mask" not in str(path.parent).lower()]
    inspector = gate.Inspector()
    print(f"| {len(photos)} photographs | gradable | refused | " + " | ".join(METRICS) + " |")
    print("|---" * (3 + len(METRICS)) + "|")
    for name, degrade in DEGRADED.items():
        rows, refused = [], 0
        for photo in photos:
            degraded = degrade(photo)
            try:
                prepared, box = prepare(degraded, side, side)
            except MedtexError:
                refused += 1
                continue
            metrics = inspector.metrics(degraded, box, prepared, layout="rgb")
            refused += gate.assess(metrics) is not None
            rows.append([getattr(metrics, name) for name in METRICS])
        table = np.array(rows)
        shown = " | ".join(_range(table[:, k]) for k in range(len(METRICS)))
        print(f"| {name} | {len(photos) - refused} | {refused} | {shown} |", flush=True)


def _range(values: npt.NDArray[np.float64]) -> str:
    low, few, many, high = np.percentile(values, (0, 1, 99, 100))
    return f"{low:.3g} ({few:.3g}..{many:.3g}) {high:.3g}"


if __name__ == "__main__":
    main()
