"""A run folder as a training writes it: weights, `model.json`, `metrics.json`, `config.toml` and `splits.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from medtex_edge.contract import OperatingPoint
from medtex_edge.errors import BundleError, DataError, TeacherError
from medtex_edge.progress import Progress
from medtex_edge.train.config import EXPLAINED, TrainConfig, config_from, read_config
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.data.dataset import DataOptions, Dataset, read_dataset
from medtex_edge.train.data.split import Splits, read_splits
from medtex_edge.train.losses.objective import evidence_channels
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.teacher import read_card
from medtex_edge.train.models.weights import read_safetensors
from medtex_edge.train.prepare import photographs


@dataclass(frozen=True)
class Run:
    """A finished distillation."""

    path: Path
    name: str
    classes: tuple[str, ...]
    referable: tuple[int, ...]
    ordered: bool
    size: int
    temperature: float
    operating_point: OperatingPoint
    metrics: dict[str, Any]
    config: TrainConfig
    card: dict[str, Any]
    data: Path | None
    data_options: DataOptions
    fingerprint: str  # of the photographs that it was trained and validated on
    seed: int

    def load_model(self) -> MedTex:
        """Student and explainer with the run's weights, in fp32 and evaluation mode. Raises `DataError`."""
        if self.config.method not in EXPLAINED:
            raise DataError(
                f"{self.path} was trained by the method {self.config.method!r}, a baseline without explainer",
                hint="train with --method medtex to get a model that can be exported",
            )
        c = self.config
        channels = evidence_channels(len(self.classes), self.ordered)
        explainer = Explainer(c.student, stages=c.stages, width=c.width, channels=channels, weights="none")
        self._load(explainer, "explainer")
        model = MedTex(
            self.load_student(), explainer, size=self.size, baseline_grid=c.baseline_grid, baseline=c.baseline
        )
        model.temperature = self.temperature
        return model.float().eval()

    def load_student(self) -> Classifier:
        """The student alone, of any method, in fp32 and evaluation mode. Raises `DataError`."""
        student = Classifier(self.config.student, len(self.classes), weights="none")
        self._load(student.net, "student")
        return student.float().eval()

    def _load(self, module: nn.Module, name: str) -> None:
        file = self.path / f"{name}.safetensors"
        try:
            module.load_state_dict(read_safetensors(file))
        except RuntimeError as error:
            raise DataError(f"{file} does not fit the run's configuration: {error}") from error
        except TeacherError as error:
            raise DataError(error.message) from error

    def splits(self) -> Splits:
        """Which photographs the run was trained and validated on. Raises `DataError` where that is not known."""
        return read_splits(self.path)

    def photographs(
        self, split: str = "val", *, limit: int | None = None, data: Path | None = None, teacher_size: int | None = None
    ) -> Photos:
        """The cropped photographs of a split, from the training's own source or from `data`.

        They come at the run's size, and where `teacher_size` is another one at that size as well. Raises `DataError`.
        """
        source = data or self.data
        if source is None or not source.exists():
            raise DataError(
                f"the photographs of {self.path} are no longer at {source}",
                hint="name their folder: --data DIR",
            )
        dataset = open_photographs(source, self.data_options, self.splits(), self.fingerprint, own=data is None)
        if dataset.classes != self.classes:
            raise DataError(
                f"{source} has the classes {', '.join(dataset.classes)}; the run has {', '.join(self.classes)}"
            )
        photos = photographs(dataset, split, self.size, teacher_size, self.path)
        return photos if limit is None else photos.first(limit)


def load_run(path: Path) -> Run:
    """Read a finished run of `medtex-edge train`. Raises `DataError` that names what is missing."""
    try:
        card = read_card(path, "student")
    except TeacherError as error:
        raise DataError(error.message, hint=error.hint) from error
    tables = read_config(path / "config.toml")
    try:
        metrics = json.loads((path / "metrics.json").read_text("utf-8"))
        point = dict(card["operating_point"])
        for name in ("sensitivity_interval", "specificity_interval"):
            point[name] = tuple(point[name])
        data = dict(tables["data"])
        options: dict[str, Any] = dict(data["options"])
        options["accept"] = frozenset(options["accept"])
        return Run(
            path=path,
            name=str(card["name"]),
            classes=tuple(card["classes"]),
            referable=tuple(card["referable"]),
            ordered=bool(card["ordered"]),
            size=int(card["size"]),
            temperature=float(card["temperature"]),
            operating_point=OperatingPoint(**point),
            metrics=metrics,
            config=config_from(TrainConfig, tables["train"]),
            card=card,
            data=Path(data["path"]) if data.get("path") else None,
            data_options=DataOptions(**options),
            fingerprint=str(data["fingerprint"]),
            seed=int(data["seed"]),
        )
    except (KeyError, TypeError, ValueError, OSError, BundleError) as error:
        raise DataError(f"{path} is not a complete run folder: {type(error).__name__}: {error}") from error


def open_photographs(
    source: Path, options: DataOptions, splits: Splits | None, fingerprint: str, *, own: bool, progress: Progress = None
) -> Dataset:
    """The photographs at `source` after a training, divided as that training divided them. Nothing is drawn.

    own: they must be the ones that were trained on, of that `fingerprint`; else they may be others, which keep the
    splits that their table or folders give, and are all "train" where these give none. Raises `DataError`.
    """
    dataset = read_dataset(source, options=options, progress=progress)
    if splits is None:
        return dataset
    if not own and not {key for key, _ in splits} <= {sample.key for sample in dataset.samples}:
        return dataset
    divided = dataset.with_splits(splits)
    if divided.fingerprint == fingerprint:
        return divided
    if own:
        raise DataError(
            f"{source} does not agree with the run's splits: photographs, labels or their order have changed since",
            hint="bring them back as they were, or name them as photographs of their own: --data DIR",
        )
    return dataset


def data_table(path: Path, options: DataOptions, seed: int, fingerprint: str) -> dict[str, Any]:
    """The `[data]` table of `config.toml`, which finds the same photographs again."""
    values = asdict(options)
    values["accept"] = sorted(values["accept"])
    return {"path": str(path.resolve()), "seed": seed, "fingerprint": fingerprint, "options": values}
