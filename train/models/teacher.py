"""Teachers: any model that already classifies well. They answer for whole photographs only.

`load_teacher` understands
    timm:NAME                    a timm model whose hub weights answer the classes at hand
    timm:NAME@FILE.safetensors   the same with weights from a file
    FOLDER                       a run of `medtex-edge train-teacher`
    FILE.pt2                     a torch.export program
    FILE.onnx                    an ONNX graph, the usual form from a vendor
    ensemble:SPEC,SPEC,...       the mean answer of several of these
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from medtex_edge.errors import TeacherError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.weights import create_model, load_state, normalisation, read_safetensors


@dataclass(frozen=True)
class Answer:
    """A teacher's answer to whole photographs: probabilities (N, C) float32 and, where it has them, features."""

    probabilities: Tensor
    features: list[Tensor]


@dataclass(frozen=True)
class FileOptions:
    """What a vendor's file does not state; None: taken from its input's shape, or the usual value."""

    size: int | None = None  # pixels
    mean: tuple[float, float, float] | None = None  # per channel, for pictures in 0..1
    std: tuple[float, float, float] | None = None
    output: str = "auto"  # logits, probabilities, or auto: probabilities where the rows are distributions


class Teacher(Protocol):
    """size: side of its own input in pixels; feature_channels: () where it exposes no intermediate features."""

    name: str
    size: int
    feature_channels: tuple[int, ...]
    notes: tuple[str, ...]

    def answer(self, x: Tensor) -> Answer:
        """(N, 3, S, S) float in 0..1, any S -> its answer; the teacher resizes and normalises by itself."""


def to_size(x: Tensor, size: int) -> Tensor:
    """(N, 3, S, S) -> (N, 3, size, size), antialiased."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)


class TorchTeacher:
    """A timm classifier, ours or the hub's, with its features."""

    notes: tuple[str, ...] = ()

    def __init__(
        self, name: str, classifier: Classifier, size: int, compute: Compute, temperature: float = 1.0
    ) -> None:
        self.name, self.size, self._compute, self._temperature = name, size, compute, temperature
        mean, std = normalisation(classifier.net)
        self._mean = torch.tensor(mean, device=compute.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=compute.device).view(1, 3, 1, 1)
        self.classifier = classifier.to(compute.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.feature_channels = classifier.feature_channels

    @torch.no_grad()
    def answer(self, x: Tensor) -> Answer:
        x = (to_size(x, self.size) - self._mean) / self._std
        with self._compute.autocast():
            logits, features = self.classifier.with_features(x.contiguous(memory_format=torch.channels_last))
        return Answer(torch.softmax(logits.float() / self._temperature, dim=1), features)


class EnsembleTeacher:
    """The mean of several teachers' probabilities (Hinton et al. 2015, section 2); the first shows its features."""

    def __init__(self, members: list[Teacher]) -> None:
        self.members = members
        self.name = "ensemble of " + ", ".join(member.name for member in members)
        self.size = max(member.size for member in members)
        self.feature_channels = members[0].feature_channels
        self.notes: tuple[str, ...] = tuple(note for member in members for note in member.notes)

    def answer(self, x: Tensor) -> Answer:
        answers = [member.answer(x) for member in self.members]
        return Answer(torch.stack([a.probabilities for a in answers]).mean(dim=0), answers[0].features)


def load_teacher(spec: str, classes: tuple[str, ...], compute: Compute, options: FileOptions | None = None) -> Teacher:
    """Open a teacher for these classes. Raises `TeacherError`, which names the form of the spec and what is wrong."""
    options = options or FileOptions()
    if spec.startswith("ensemble:"):
        return _ensemble(spec.removeprefix("ensemble:"), classes, compute, options)
    if spec.startswith("timm:"):
        return _from_timm(spec.removeprefix("timm:"), classes, compute, options)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _from_run(path, classes, compute)
    if path.suffix in (".pt2", ".onnx") and path.is_file():
        from medtex_edge.train.models.teacher_files import OnnxTeacher, Pt2Teacher

        kind = Pt2Teacher if path.suffix == ".pt2" else OnnxTeacher
        return kind(path, len(classes), compute, options)
    what = "there is no such file or folder" if not path.exists() else "it is none of the forms that can be opened"
    raise TeacherError(
        f"teacher {spec!r}: {what}",
        hint="give timm:NAME, timm:NAME@FILE.safetensors, a run of `medtex-edge train-teacher`, a .pt2, an .onnx, "
        "or ensemble: and several of these, with commas between",
    )


def _ensemble(specs: str, classes: tuple[str, ...], compute: Compute, options: FileOptions) -> Teacher:
    members = [part.strip() for part in specs.split(",") if part.strip()]
    if len(members) < 2 or any(member.startswith("ensemble:") for member in members):
        raise TeacherError(
            f"teacher 'ensemble:{specs}': expected two teachers or more, none an ensemble itself",
            hint="for example --teacher ensemble:runs/teacher-0,runs/teacher-1",
        )
    return EnsembleTeacher([load_teacher(member, classes, compute, options) for member in members])


def _from_timm(spec: str, classes: tuple[str, ...], compute: Compute, options: FileOptions) -> Teacher:
    name, _, file = spec.partition("@")
    if file:
        state = read_safetensors(Path(file))
        classifier = _bare(name, len(classes))
        own = classifier.net.state_dict()
        for key, value in own.items():
            if key in state and state[key].shape != value.shape:
                raise TeacherError(
                    f"{file}: {key} has shape {tuple(state[key].shape)}, but {name} for {len(classes)} classes "
                    f"({', '.join(classes)}) needs {tuple(value.shape)}",
                    hint="a teacher must answer these classes; fine-tune it with `medtex-edge train-teacher`",
                )
        load_state(classifier.net, state, file)
    else:
        classifier = _from_hub(name, classes)
    config = getattr(classifier.net, "pretrained_cfg", None) or {}
    size = options.size or int(config.get("input_size", (3, 224, 224))[-1])
    return TorchTeacher(f"timm:{spec}", classifier, size, compute)


def _from_hub(name: str, classes: tuple[str, ...]) -> Classifier:
    import timm

    if not timm.is_model(name.split(".")[0]) and not name.startswith("hf_hub:"):
        create_model(name, len(classes))  # raises the error that names what is near
    own = (
        None if name.startswith("hf_hub:") else int(timm.get_pretrained_cfg(name, allow_unregistered=False).num_classes)
    )
    if own is not None and own != len(classes):
        raise TeacherError(
            f"timm:{name}: its hub weights answer {own} classes, "
            f"the photographs have {len(classes)} ({', '.join(classes)})",
            hint=f"fine-tune it first: medtex-edge train-teacher --model {name} --data ... --out runs/teacher",
        )
    try:
        net = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise TeacherError(
            f"no weights for timm:{name}: the hub cannot be reached ({type(error).__name__})",
            hint=f"download them where there is a network and give timm:{name}@FILE.safetensors",
        ) from error
    classifier = _bare("resnet18", len(classes))
    classifier.net = net
    return classifier


def _bare(name: str, classes: int) -> Classifier:
    return Classifier(name, classes, weights="none")


def _from_run(path: Path, classes: tuple[str, ...], compute: Compute) -> Teacher:
    card = read_card(path, "teacher")
    if tuple(card["classes"]) != classes:
        raise TeacherError(
            f"the teacher in {path} answers {', '.join(card['classes'])}; the photographs have {', '.join(classes)}",
            hint="teach one on photographs with the same classes: medtex-edge train-teacher",
        )
    classifier = _bare(str(card["model"]), len(classes))
    try:
        classifier.net.load_state_dict(read_safetensors(path / "teacher.safetensors"))
    except RuntimeError as error:
        raise TeacherError(f"{path / 'teacher.safetensors'} does not fit {card['model']}: {error}") from error
    return TorchTeacher(str(path), classifier, int(card["size"]), compute, float(card["temperature"]))


def read_card(path: Path, kind: str) -> dict[str, Any]:
    """The `model.json` of a run folder of the kind 'teacher' or 'student'. Raises `TeacherError`."""
    command = "train-teacher" if kind == "teacher" else "train"
    file = path / "model.json"
    try:
        card = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise TeacherError(
            f"{path} is no finished run of `medtex-edge {command}`: it has no model.json",
            hint=f"run `medtex-edge {command}` to its end",
        ) from None
    except (OSError, ValueError) as error:
        raise TeacherError(f"cannot read {file}: {error}") from error
    if not isinstance(card, dict) or card.get("kind") != kind:
        came = card.get("kind") if isinstance(card, dict) else type(card).__name__
        raise TeacherError(f"{file}: expected a run of `medtex-edge {command}`, got {came!r}")
    needed = (
        {"model", "classes", "size", "temperature"}
        if kind == "teacher"
        else {"student", "classes", "size", "temperature"}
    )
    if missing := sorted(needed - set(card)):
        raise TeacherError(f"{file}: {', '.join(missing)} missing")
    return card
