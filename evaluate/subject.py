"""What is evaluated, and on which photographs: a run or a bundle, which answer through the same interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medtex_edge.contract import OperatingPoint
from medtex_edge.errors import DataError
from medtex_edge.evaluate.evaluator import masked_model
from medtex_edge.evaluate.masked_predictor import BATCH, MaskedPredictor
from medtex_edge.progress import Progress
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.config import EXPLAINED
from medtex_edge.train.data.cache import load_photos
from medtex_edge.train.data.dataset import DataOptions, Dataset
from medtex_edge.train.data.readers import read_table
from medtex_edge.train.data.split import SPLITS, Splits
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.run_folder import Run, open_photographs
from medtex_edge.train.synthetic.dataset import MARK

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
EVERY = "all"


@dataclass(frozen=True)
class Subject:
    """A trained student, with its explainer where it has one.

    read: images (N, size, size, 3) uint8, cropped -> probabilities (N, C) and maps (N, h, w) in 0..1 as deployed; the
    maps are None for a method without explainer. `model` and `predictor` are None for a bundle, which shows no weights.
    """

    kind: str  # "run" or "bundle"
    path: Path
    name: str
    student: str
    teacher: str
    method: str
    classes: tuple[str, ...]
    referable: tuple[int, ...]
    ordered: bool
    size: int
    seed: int
    point: OperatingPoint
    fingerprint: str  # of the dataset that it was trained on; "" where that is unknown
    data: Path | None
    options: DataOptions
    read: Callable[[Images], tuple[Floats, Floats | None]]
    model: MedTex | None = None
    predictor: MaskedPredictor | None = None  # under any mask, in the fast precision
    whole: Callable[[Images], Floats] | None = None  # on whole photographs, in fp32
    splits: Splits | None = None  # of the photographs that it was trained on; None for a bundle, which names none
    cost: dict[str, Any] | None = None  # as counted at its export

    def as_json(self) -> dict[str, Any]:
        """The table `subject` of evaluation.json."""
        return {
            "kind": self.kind, "path": self.path.name, "student": self.student, "teacher": Path(self.teacher).name,
            "method": self.method, "size": self.size, "classes": list(self.classes),
            "referable": list(self.referable), "seed": self.seed,
        }  # fmt: skip


def subject_of_run(run: Run, compute: Compute) -> Subject:
    """A run of any method; one without explainer answers on whole photographs. Raises `DataError`."""
    has_explainer = run.config.method in EXPLAINED
    model = (run.load_model() if has_explainer else masked_model(run)).to(compute.device)
    # What is answered is measured in the precision that is exported; thousands of masked pictures need not be.
    whole = MaskedPredictor.of_student(model, Compute(compute.device, None)).whole
    read = deployed(model, compute) if has_explainer else lambda images: (whole(images), None)
    return Subject(
        "run", run.path, run.name, run.config.student, str(run.card.get("teacher", "")), run.config.method,
        run.classes, run.referable, run.ordered, run.size, run.seed, run.operating_point,
        str(run.card.get("data_fingerprint", "")), run.data, run.data_options, read, model,
        MaskedPredictor.of_student(model, compute), whole, run.splits(),
    )  # fmt: skip


def deployed(model: MedTex, compute: Compute) -> Callable[[Images], tuple[Floats, Floats]]:
    """The model's own forward pass on numpy arrays, in fp32, as it is exported."""

    @torch.no_grad()
    def read(images: Images) -> tuple[Floats, Floats]:
        parts = [
            model(torch.from_numpy(np.array(images[start : start + BATCH])).to(compute.device))
            for start in range(0, len(images), BATCH)
        ]
        probabilities, maps = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return probabilities, maps

    return read


@dataclass(frozen=True)
class Pictures:
    """The photographs of an evaluation, at whatever size a model wants: `labels` (N,) are the subject's, -1: none."""

    dataset: Dataset
    splits: tuple[str, ...]
    labels: Ints
    keys: tuple[str, ...]
    cache: Path
    progress: Progress = None

    def at(self, size: int) -> Images:
        """(N, size, size, 3) uint8 RGB, cropped."""
        parts = [load_photos(self.dataset, s, size, cache=self.cache, progress=self.progress) for s in self.splits]
        return parts[0].images if len(parts) == 1 else np.concatenate([part.images for part in parts])

    def as_json(self) -> dict[str, Any]:
        """The table `data` of evaluation.json."""
        return {
            "path": self.dataset.root.name,
            "split": self.splits[0] if len(self.splits) == 1 else EVERY,
            "n": len(self.keys),
            "fingerprint": self.dataset.fingerprint,
            "synthetic": (self.dataset.root / MARK).is_file(),
        }


def open_pictures(
    subject: Subject, data: Path | None, options: DataOptions, split: str, cache: Path, progress: Progress = None
) -> Pictures:
    """A split of the subject's own photographs, or of those in `data`; the split "all" is all three of them.

    Its own are divided by the run's `splits.json`, so that what was trained on is not measured on by accident; others
    keep the splits that they come with. Raises `DataError` where there are none, none has a label, or a class is none
    of the subject's.
    """
    source = data or subject.data
    if source is None or not source.exists():
        raise DataError(
            f"the photographs that {subject.path} was trained on are no longer at {source}"
            if source is not None
            else f"{subject.path}: a bundle holds no photographs",
            hint="name the folder of the photographs: --data DIR",
        )
    own = data is None
    dataset = open_photographs(source, options, subject.splits, subject.fingerprint, own=own, progress=progress)
    if unknown := [name for name in dataset.classes if name not in subject.classes]:
        raise DataError(
            f"{source} has the class {unknown[0]!r}; {subject.path} answers {', '.join(subject.classes)}",
            hint="name the column of its own classes: --label-column",
        )
    splits = tuple(s for s in (SPLITS if split == EVERY else (split,)) if dataset.of(s))
    samples = [sample for s in splits for sample in dataset.of(s)]
    place = [subject.classes.index(name) for name in dataset.classes]
    labels = np.array([place[s.label] if s.label >= 0 else -1 for s in samples], np.int64)
    if not (labels >= 0).any():
        raise DataError(
            f"{source}: no labelled photographs in the split {split!r}",
            hint="take every photograph: --split all"
            + ("" if subject.splits else "; or evaluate the run, which knows its own validation photographs"),
        )
    return Pictures(dataset, splits, labels, tuple(s.key for s in samples), cache, progress)


def group_values(source: Path, options: DataOptions, column: str, keys: tuple[str, ...]) -> list[str]:
    """The values of a table's column (camera, site) for these photographs, "" where it is empty.

    Raises `DataError` where the photographs come without a table or the table without that column.
    """
    # Read as if it were the column of patients: any column of texts is read in the same way.
    table = read_table(source, replace(options, patient_column=column))
    if table.form != "csv":
        raise DataError(f"{source}: --group-column needs a CSV, these photographs come as {table.form}")
    values = {row.key: row.patient for row in table.rows}
    if not any(values.values()):
        raise DataError(f"{source}: the column {column!r} is missing or empty")
    return [values.get(key, "") for key in keys]
