"""Photographs with lesion masks, cropped like the input of the model: the ground truth of saliency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.errors import DataError
from medtex_edge.image.geometry import FieldOfView, crop_resize, find_field_of_view
from medtex_edge.image.photo import SUFFIXES, Image, read_photo
from medtex_edge.train.compute.device import in_order
from medtex_edge.train.data.dataset import Dataset, Sample

LESIONS = ("MA", "HE", "EX", "SE")  # microaneurysms, haemorrhages, hard and soft exudates
KINDS = (*LESIONS, "OD", "ALL")  # optic disc; the union of the lesions, without the disc


@dataclass(frozen=True)
class Lesions:
    """images (N, S, S, 3) uint8 RGB; masks: kind of `KINDS` -> (N, S, S) bool; N keys (names without suffix)."""

    images: npt.NDArray[np.uint8]
    masks: dict[str, npt.NDArray[np.bool_]]
    keys: tuple[str, ...]


def load_lesions(folder: Path, size: int) -> Lesions:
    """Read images/NAME.* and masks/NAME_KIND.png of `folder` at `size` pixels a side.

    A missing kind's file means none of that kind; a missing NAME_ALL.png is the union of the lesions. A pixel is
    lesion where any of the photograph's pixels that it averages is, so that those of one pixel survive.
    Raises `DataError` that names every photograph without masks and every mask of another size.
    """
    folder = Path(folder)
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise DataError(
            f"{folder}: expected the folders images/ and masks/",
            hint="photographs images/NAME.png, masks masks/NAME_MA.png and so on: " + ", ".join(KINDS),
        )
    paths = sorted(
        path
        for path in (folder / "images").iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise DataError(f"{folder / 'images'}: no photographs", hint=f"expected {', '.join(sorted(SUFFIXES))}")
    if twice := sorted({path.stem for path in paths if sum(other.stem == path.stem for other in paths) > 1}):
        raise DataError(f"{folder / 'images'}: several photographs are called {', '.join(twice[:20])}")

    def load(path: Path) -> tuple[Image, dict[str, npt.NDArray[np.bool_]]] | DataError:
        try:
            return _load(path, folder / "masks", size)
        except DataError as error:
            return error

    loaded = list(in_order(load, paths))
    if problems := [found for found in loaded if isinstance(found, DataError)]:
        lines = [f"  - {problem.message}" for problem in problems[:20]]
        lines += [f"  - and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise DataError(
            "\n".join([f"{folder}: {len(problems)} problems", *lines]), hint="correct or remove these files"
        )
    pairs = [found for found in loaded if not isinstance(found, DataError)]
    images = np.stack([image for image, _ in pairs])
    masks = {kind: np.stack([found[kind] for _, found in pairs]) for kind in KINDS}
    return Lesions(images, masks, tuple(path.stem for path in paths))


def load_column(dataset: Dataset, split: str, size: int) -> Lesions | None:
    """The masks in a table's mask column for a split, one per photograph, as kind ALL; None where there are none."""
    samples = [sample for sample in dataset.of(split) if sample.mask]
    if not samples:
        return None

    def load(sample: Sample) -> tuple[Image, npt.NDArray[np.bool_]]:
        image = dataset.read(sample)
        box = dataset.box(image)
        mask = read_photo(dataset.root / str(sample.mask))
        return crop_resize(image, box, size, size), _through(mask, image, box, size, str(sample.mask))

    images, masks = zip(*in_order(load, samples), strict=True)
    return Lesions(np.stack(images), {"ALL": np.stack(masks)}, tuple(sample.key for sample in samples))


def _load(path: Path, folder: Path, size: int) -> tuple[Image, dict[str, npt.NDArray[np.bool_]]]:
    image = read_photo(path)
    try:
        box = find_field_of_view(image)
    except DataError as error:
        raise DataError(f"{path.name}: {error.message}") from None
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for kind in KINDS:
        file = folder / f"{path.stem}_{kind}.png"
        if file.is_file():
            masks[kind] = _through(read_photo(file), image, box, size, file.name)
    if not masks:
        raise DataError(f"{path.name}: no masks; expected {path.stem}_ALL.png or another of {', '.join(KINDS)}")
    nothing: npt.NDArray[np.bool_] = np.zeros((size, size), np.bool_)
    lesions = {kind: masks.get(kind, nothing) for kind in (*LESIONS, "OD")}
    union: npt.NDArray[np.bool_] = np.maximum.reduce([lesions[kind] for kind in LESIONS])
    return crop_resize(image, box, size, size), {**lesions, "ALL": masks.get("ALL", union)}


def _through(mask: Image, image: Image, box: FieldOfView, size: int, name: str) -> npt.NDArray[np.bool_]:
    """(H, W, 3) uint8 mask -> (S, S) bool, cropped by the box of its photograph."""
    if mask.shape != image.shape:
        raise DataError(
            f"{name}: {mask.shape[1]} x {mask.shape[0]} pixels, its photograph {image.shape[1]} x {image.shape[0]}"
        )
    white = np.where(mask.any(axis=2, keepdims=True), np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    # One pixel may be divided among four averages. Below 1/510 it would round to black, so it is dilated first.
    if box.side > 8 * size:
        reach = box.side // (4 * size) | 1
        white = cv2.dilate(white, np.ones((reach, reach), np.uint8))
    return crop_resize(np.ascontiguousarray(white), box, size, size)[..., 0] > 0
