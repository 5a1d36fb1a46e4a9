"""Synthetic fundus photographs with exact lesion masks: for tests, demonstration and teaching, never for a claim.

The grade follows from the lesions by a written rule (`lesions.grade_of`). All else (anatomy, colour, light, blur,
framing, and harmless spots that resemble lesions) is drawn from other random streams. Only the lesions therefore carry
the grade: the same seed with another grade gives the same eye and camera.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from medtex_edge.errors import SettingsError, StorageError
from medtex_edge.files import storage
from medtex_edge.progress import Progress, counting
from medtex_edge.train.compute.device import in_order
from medtex_edge.train.data.lesions import KINDS
from medtex_edge.train.synthetic.lesions import GRADES, grade_of
from medtex_edge.train.synthetic.scene import GRADE_SHARES, Scene, render
from medtex_edge.train.synthetic.video import write_video

__all__ = [
    "GRADES",
    "MARK",
    "PURPOSE",
    "Eye",
    "Scene",
    "grade_of",
    "plan_eyes",
    "render",
    "write_dataset",
    "write_video",
]

PURPOSE = "synthetic photographs are for tests, demonstration and teaching, never for a claim"
MARK = "SYNTHETIC.txt"  # a file in every synthetic dataset
MAX_COUNT = 100_000
_PAIRED = 20  # from this many photographs on patients have two eyes each; fewer could not be split
_VAL_EVERY = 4  # one of so many patients is for validation


@dataclass(frozen=True)
class Eye:
    """One eye of the dataset: a line of labels.csv."""

    name: str  # of the photograph, without suffix
    grade: int
    split: str
    patient: str
    number: int  # of the patient; part of its seed
    left: bool


def write_dataset(folder: Path, *, count: int = 240, size: int = 320, seed: int = 0, progress: Progress = None) -> Path:
    """Write images/NAME.jpg, masks/NAME_{MA,HE,EX,SE,OD,ALL}.png and labels.csv (image,grade,split,patient).

    A kind that an eye lacks has no mask file; OD and ALL always exist. The folder appears whole or not at all. Returns
    the folder. Raises `SettingsError` where it is not empty, `StorageError` where it cannot be written.
    """
    folder = Path(folder)
    eyes = plan_eyes(count, seed)
    if folder.is_dir() and any(folder.iterdir()):
        raise SettingsError(f"{folder} is not empty", hint="choose another folder, or empty that one")
    with storage(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with storage(folder), counting(progress, "drawing synthetic eyes", count) as advance:
            (temporary / "images").mkdir()
            (temporary / "masks").mkdir()

            def make(indexed: tuple[int, Eye]) -> None:
                index, eye = indexed
                scene = render((seed, index), size=size, grade=eye.grade, left=eye.left, patient=(seed, eye.number, 1))
                _write_scene(temporary, eye.name, scene)

            for _ in in_order(make, enumerate(eyes)):
                advance()
            _write_labels(temporary / "labels.csv", eyes)
            # A warning for whoever finds the folder later, and for the report of a run on it.
            (temporary / MARK).write_text(f"{PURPOSE.capitalize()}.\n", encoding="utf-8")
            temporary.chmod(0o755)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def plan_eyes(count: int, seed: int) -> list[Eye]:
    """Draw grades, patients and splits of `count` eyes. Raises `SettingsError`.

    Grades have fixed shares, at least two of each where `count` allows; the eyes of a patient have similar grades.
    Names are numbers in random order. Splits are by patient, stratified by grade.
    """
    if not 1 <= count <= MAX_COUNT:
        raise SettingsError(f"count: expected 1 to {MAX_COUNT}, got {count}")
    random = np.random.default_rng((seed, count, 2))
    grades = np.resize(np.repeat(np.arange(GRADES), 2), min(count, 2 * GRADES))
    rest = count - len(grades)
    shares = np.floor(np.cumsum(GRADE_SHARES) * rest + 0.5).astype(int)
    grades = np.concatenate([grades, np.repeat(np.arange(GRADES), np.diff(shares, prepend=0))])
    # The eyes of a patient resemble each other, though not perfectly.
    grades = grades[np.argsort(grades + random.normal(0, 0.6, count), kind="stable")]
    eyes_each = 2 if count >= _PAIRED else 1
    patients = [grades[start : start + eyes_each].tolist() for start in range(0, count, eyes_each)]
    val = _choose_val(patients, int(random.integers(_VAL_EVERY)))
    eyes = []
    for number, patient in enumerate(random.permutation(len(patients)).tolist()):
        sides = random.permutation(2)[: len(patients[patient])].tolist()
        for grade, left in zip(patients[patient], sides, strict=True):
            name = f"{number + 1:04d}_{'left' if left else 'right'}"
            split = "val" if patient in val else "train"
            eyes.append(Eye(name, int(grade), split, f"P{number + 1:04d}", number, bool(left)))
    return eyes


def _choose_val(patients: list[list[int]], offset: int) -> set[int]:
    """Every `_VAL_EVERY`th patient in the order of grades, except for the last patient of a grade."""
    left = np.bincount([grade for patient in patients for grade in patient], minlength=GRADES)
    chosen = set()
    for number in range(min(offset, len(patients) - 1), len(patients), _VAL_EVERY):
        after = left - np.bincount(patients[number], minlength=GRADES)
        if (after[patients[number]] > 0).all():
            chosen.add(number)
            left = after
    return chosen


def _write_scene(folder: Path, name: str, scene: Scene) -> None:
    files = {f"images/{name}.jpg": (scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])}
    for kind in KINDS:
        if kind in ("OD", "ALL") or scene.masks[kind].any():
            files[f"masks/{name}_{kind}.png"] = (scene.masks[kind].astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    for path, (pixels, options) in files.items():
        done, data = cv2.imencode(Path(path).suffix, np.ascontiguousarray(pixels), options)
        if not done:
            raise StorageError(f"{path}: OpenCV could not encode it")
        # Not cv2.imwrite, which writes half a file on a full disk.
        (folder / path).write_bytes(data.tobytes())


def _write_labels(path: Path, eyes: Iterable[Eye]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "grade", "split", "patient"))
        writer.writerows((f"{eye.name}.jpg", eye.grade, eye.split, eye.patient) for eye in eyes)
