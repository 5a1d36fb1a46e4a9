"""The settings of a training, each with its unit and its reason. A run records them in `config.toml`."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from medtex_edge.errors import DataError, SettingsError
from medtex_edge.files import atomic_write

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

METHODS = ("medtex", "masked", "hinton", "vid", "paper", "supervised")
EXPLAINED = ("medtex", "paper")  # methods that train an explainer, so that the run can be exported
BASELINES = ("blur", "mean")
LABEL_LOSSES = ("ce", "focal", "ordinal")


@dataclass(frozen=True)
class Weights:
    """One weight per term of the objective (`train/losses/objective.py`); 0 switches a term off."""

    out: float = 1.0  # L_out: the teacher's prediction, from the visible part of the photograph
    mid: float = 0.1  # L_mid: the teacher's features; needs a teacher that exposes them
    label: float = 0.0  # L_label (`train/losses/labels.py`): the ground truth
    local: float = 1.0  # L_local: the teacher's prediction, from the evidence of the single cells
    budget: float = 2.0  # L_mask: penalty on the area beyond `TrainConfig.budget`
    tv: float = 0.05  # L_mask: total variation, so that the map shows regions rather than single cells


# Every baseline is the same loop with other terms of the objective.
METHOD_WEIGHTS = {
    "medtex": Weights(),
    "masked": replace(Weights(), local=0.0, budget=0.0, tv=0.0),
    "hinton": Weights(out=0.9, mid=0.0, label=0.1, local=0.0, budget=0.0, tv=0.0),
    "vid": Weights(out=0.0, mid=1.0, label=1.0, local=0.0, budget=0.0, tv=0.0),
    "paper": Weights(out=1.0, mid=0.1, label=0.0, local=0.0, budget=0.0, tv=0.0),
    "supervised": Weights(out=0.0, mid=0.0, label=1.0, local=0.0, budget=0.0, tv=0.0),
}


@dataclass(frozen=True)
class TrainConfig:
    """The distillation. Phase one trains student (under random masks) and explainer separately, phase two jointly."""

    student: str = "tf_efficientnet_lite0"
    student_weights: str = "auto"  # auto: packaged or hub ImageNet weights; none: random; or a .safetensors file
    method: str = "medtex"  # the others are baselines; see `train/loop/distillation.py`
    size: int = 224  # pixels: side of the square input of student and explainer
    stages: int = 4  # stages of the backbone that the explainer's encoder keeps
    width: int = 32  # channels of the explainer's decoder
    epochs: int = 16  # phase one, passes over the photographs: student and explainer separately
    joint_epochs: int = 8  # phase two: the student under the explainer's masks
    batch: int = 16  # photographs per step, over all processes together
    lr: float = 4e-4  # peak rate of the student in phase one; AdamW, cosine schedule
    joint_lr: float = 2e-4  # peak rate of the student in phase two, when it is nearly trained
    encoder_lr: float = 4e-4  # the explainer's pretrained encoder, in phase one
    head_lr: float = 3e-3  # the explainer's decoder: at the encoder's rate the mask keeps its initial value
    settled: float = 0.25  # factor on both these rates in phase two
    level_lr: float = 1e-2  # the two numbers of the threshold on the evidence, which must follow quickly
    weight_decay: float = 0.02
    warmup: float = 0.05  # fraction of a phase's steps during which the rate rises
    clip: float = 2.0  # largest gradient norm of each parameter group
    ema: float = 0.98  # decay per step: an average over about the last 50 steps
    random_fraction: float = (
        0.4  # of each batch of phase two, under random masks, so that the shape of a mask cannot encode the class
    )
    budget: float = 0.2  # visible fraction of the photograph up to which the budget term is zero
    label_loss: str = "ce"  # ce, focal, ordinal; used where the weight `label` is above 0
    class_weights: str = "none"  # of the label loss: none, balanced, or a number per class such as "1,1,2,2,2"
    hinton_temperature: float = 4.0  # softens both predictions, so that small probabilities count (Hinton et al. 2015)
    baseline: str = "auto"  # what replaces hidden pixels: blur, or mean in the method of the paper
    baseline_grid: int = 14  # cells: side of the average-pooled photograph that the blur is made of
    patience: int = 0  # epochs without a better validation loss before a phase ends early; 0: half of the phase
    target_sensitivity: float = 0.90  # of the operating point, on referable photographs
    precision: str = "auto"  # autocast: auto, fp32, bf16, fp16
    compiled: bool = False  # torch.compile: pays on GPUs, in long runs
    seed: int = 0
    weights: Weights = field(default_factory=Weights)  # the default stands for the weights of the method

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        if self.weights == Weights():
            object.__setattr__(self, "weights", METHOD_WEIGHTS[self.method])
        if self.baseline == "auto":
            object.__setattr__(self, "baseline", "mean" if self.method == "paper" else "blur")
        _one_of("baseline", self.baseline, BASELINES)
        _check_common(self)
        _between("hinton_temperature", self.hinton_temperature, 0.1, 100)
        _between("stages", self.stages, 2, 7)
        _between("epochs", self.epochs, 0, 100_000)
        _between("joint_epochs", self.joint_epochs, 0, 100_000)
        if self.epochs + self.joint_epochs == 0:
            raise SettingsError("epochs and joint_epochs are both 0: nothing would be trained")
        _between("random_fraction", self.random_fraction, 0, 0.9)
        _between("budget", self.budget, 0, 1)
        _between("settled", self.settled, 0, 1)
        _between("baseline_grid", self.baseline_grid, 1, self.size)
        _between("target_sensitivity", self.target_sensitivity, 0.01, 1)
        for name, value in dataclasses.asdict(self.weights).items():
            _between(f"weights.{name}", value, 0, 1e6)


@dataclass(frozen=True)
class TeachConfig:
    """The fine-tuning of a pretrained classifier into a teacher."""

    model: str = "tf_efficientnet_lite2"
    model_weights: str = "auto"
    size: int = 256  # pixels: Lite2 was pretrained at 260
    epochs: int = 14
    batch: int = 16  # photographs per step, over all processes together
    lr: float = 4e-4
    weight_decay: float = 0.02
    warmup: float = 0.05
    clip: float = 2.0
    ema: float = 0.98
    label_loss: str = "ce"  # ce, focal, ordinal
    class_weights: str = "none"  # none, balanced, or a number per class; all but none shift the probabilities
    label_smoothing: float = 0.05  # on few photographs an overconfident teacher has no dark knowledge to transfer
    drop_rate: float = 0.2
    patience: int = 0
    target_sensitivity: float = 0.90
    precision: str = "auto"
    compiled: bool = False  # torch.compile: pays on GPUs, in long runs
    seed: int = 0

    def __post_init__(self) -> None:
        _check_common(self)
        _between("epochs", self.epochs, 1, 100_000)
        _between("label_smoothing", self.label_smoothing, 0, 0.9)


def _check_common(config: TrainConfig | TeachConfig) -> None:
    _one_of("precision", config.precision, ("auto", "fp32", "bf16", "fp16"))
    _one_of("label_loss", config.label_loss, LABEL_LOSSES)
    _between("batch", config.batch, 2, 65_536)
    _between("ema", config.ema, 0, 0.99999)
    _between("lr", config.lr, 1e-9, 10)
    _between("patience", config.patience, 0, 100_000)
    _between("size", config.size, 32, 2048)
    if config.size % 32:
        raise SettingsError(f"size: expected a multiple of 32 pixels, got {config.size}")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name}: expected {low} to {high}, got {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingsError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def write_config(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write flat tables of numbers, strings, booleans and lists of these as TOML, atomically. Raises `StorageError`."""
    with atomic_write(path, "w") as file:
        for name, table in tables.items():
            file.write(f"[{name}]\n")
            file.writelines(f"{key} = {_toml(value)}\n" for key, value in table.items() if not isinstance(value, dict))
            file.write("\n")
            for key, value in table.items():
                if isinstance(value, dict):
                    file.write(f"[{name}.{key}]\n")
                    file.writelines(f"{k} = {_toml(v)}\n" for k, v in value.items())
                    file.write("\n")


def read_config(path: Path) -> dict[str, Any]:
    """Read a run's `config.toml`. Raises `DataError` where it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path.parent} is not a run folder: it has no {path.name}",
            hint="give a folder that `medtex-edge train` wrote",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


Config = TypeVar("Config", TrainConfig, TeachConfig)


def config_from(cls: type[Config], table: dict[str, Any]) -> Config:
    """Build a configuration from a table; unknown keys are errors that name the nearest known key."""
    values = dict(table)
    known = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise SettingsError(f"unknown key {key!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    if "weights" in values:
        weights = _without_order(values["weights"])
        unknown = set(weights) - {f.name for f in dataclasses.fields(Weights)}
        if unknown:
            raise SettingsError(f"unknown weights: {', '.join(sorted(unknown))}")
        values["weights"] = replace(METHOD_WEIGHTS.get(values.get("method", "medtex"), Weights()), **weights)
    try:
        return cls(**values)
    except TypeError as error:
        raise SettingsError(f"a configuration value has the wrong type: {error}") from error


def _without_order(weights: dict[str, Any]) -> dict[str, Any]:
    """Drop the weight of L_order, a term of earlier versions, from a run where it was off. Raises `SettingsError`."""
    if weights.get("order", 0) != 0:
        raise SettingsError(
            f"weights.order: the term L_order no longer exists, so its weight cannot be {weights['order']}",
            hint="remove it; it was off by default",
        )
    return {name: weight for name, weight in weights.items() if name != "order"}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(
            c if c.isprintable() and c not in '"\\' else {'"': '\\"', "\\": "\\\\"}.get(c, f"\\u{ord(c):04x}")
            for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")
