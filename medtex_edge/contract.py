"""The contract: the inputs and outputs of the graph, its classes, and the operating point. JSON in and out.

The contract is read on a device from an untrusted file, so every field is checked for type and
range, unknown fields are errors, and a contract that was built in Python passes the same checks.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleError

SCHEMA = 1
GEOMETRY = "fov-square-area/1"  # the version of medtex_edge.image.geometry that the model was trained with
INPUT_NAME = "image"
OUTPUT_NAMES = ("probabilities", "saliency")
MAX_SIDE = 4096
MAX_CLASSES = 1000


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold on the referable probability, fixed on validation photographs and sealed with the model.

    `sensitivity` and `specificity` are fractions in 0..1, the intervals are 95 % (Clopper-Pearson).
    A frame is referable where its referable probability is >= `threshold`.
    """

    threshold: float
    target_sensitivity: float
    sensitivity: float
    sensitivity_interval: tuple[float, float]
    specificity: float
    specificity_interval: tuple[float, float]
    positives: int
    negatives: int

    def __post_init__(self) -> None:
        for name in ("threshold", "target_sensitivity", "sensitivity", "specificity"):
            _fraction(name, getattr(self, name))
        for name in ("sensitivity_interval", "specificity_interval"):
            value = getattr(self, name)
            _expect(isinstance(value, tuple) and len(value) == 2, name, "two numbers", value)
            low, high = (_fraction(name, bound) for bound in value)
            _expect(low <= high, name, "low <= high", value)
        for name in ("positives", "negatives"):
            value = getattr(self, name)
            _expect(_is_int(value) and value >= 0, name, "a count", value)


@dataclass(frozen=True)
class Contract:
    """What a bundle promises of its graph.

    image (N, height, width, 3) uint8 RGB, field of view cropped and resized by `geometry`
    -> probabilities (N, C) float32, temperature applied; saliency (N, saliency_height, saliency_width) in 0..1.
    """

    name: str
    classes: tuple[str, ...]
    height: int
    width: int
    saliency_height: int
    saliency_width: int
    referable: tuple[int, ...]  # class indices whose probabilities add up to the referable probability
    ordered: bool  # grades (0 < 1 < ...) rather than unordered classes
    temperature: float
    operating_point: OperatingPoint
    created: str  # ISO 8601, UTC
    geometry: str = GEOMETRY
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        _expect(self.schema == SCHEMA, "schema", f"{SCHEMA} (this version of medtex-edge)", self.schema)
        _expect(self.geometry == GEOMETRY, "geometry", GEOMETRY, self.geometry)
        for name in ("name", "created"):
            value = getattr(self, name)
            short = isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
            _expect(short, name, "a short text", value)
        _expect(
            isinstance(self.classes, tuple)
            and 2 <= len(self.classes) <= MAX_CLASSES
            and all(isinstance(c, str) and 0 < len(c) <= 100 and c.isprintable() for c in self.classes)
            and len(set(self.classes)) == len(self.classes),
            "classes", f"2 to {MAX_CLASSES} different names", self.classes,
        )  # fmt: skip
        for name in ("height", "width", "saliency_height", "saliency_width"):
            value = getattr(self, name)
            _expect(_is_int(value) and 1 <= value <= MAX_SIDE, name, f"1 to {MAX_SIDE} pixels", value)
        _expect(
            self.saliency_height <= self.height and self.saliency_width <= self.width,
            "saliency_height", "a saliency no larger than the image", (self.saliency_height, self.saliency_width),
        )  # fmt: skip
        _expect(
            isinstance(self.referable, tuple)
            and all(_is_int(i) and 0 <= i < len(self.classes) for i in self.referable)
            and len(set(self.referable)) == len(self.referable)
            and 0 < len(self.referable) < len(self.classes),
            "referable", "some, not all, of the class indices", self.referable,
        )  # fmt: skip
        _expect(isinstance(self.ordered, bool), "ordered", "true or false", self.ordered)
        warmth, point = self.temperature, self.operating_point
        _expect(_is_number(warmth) and 0.01 <= warmth <= 100, "temperature", "0.01 to 100", warmth)
        _expect(isinstance(point, OperatingPoint), "operating_point", "an operating point", point)

    def referable_probability(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(..., C) -> (...): the summed probability of the referable classes."""
        total: npt.NDArray[np.float32] = probabilities[..., list(self.referable)].sum(axis=-1, dtype=np.float32)
        return total

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dump`; `from_json` of it gives an equal contract."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Contract:
        """Check and build. Raises `BundleError` that names the field, what was expected and what was found."""
        fields = _fields(cls, value, "contract")
        point = _fields(OperatingPoint, fields["operating_point"], "operating_point")
        for name in ("sensitivity_interval", "specificity_interval"):
            point[name] = _tuple(name, point[name])
        fields["operating_point"] = OperatingPoint(**point)
        for name in ("classes", "referable"):
            fields[name] = _tuple(name, fields[name])
        return cls(**fields)


def _fields(cls: type[Any], value: Any, where: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), where, "an object", value)
    known = {field.name for field in dataclasses.fields(cls)}
    missing, unknown = sorted(known - set(value)), sorted(set(value) - known, key=str)
    _expect(not missing, where, "all of its fields", f"none of {', '.join(missing)}")
    _expect(not unknown, where, f"only {', '.join(sorted(known))}", ", ".join(map(str, unknown)))
    return dict(value)


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), name, "a list", value)
    return tuple(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and math.isfinite(value)


def _fraction(name: str, value: Any) -> float:
    _expect(_is_number(value) and 0 <= value <= 1, name, "a number in 0..1", value)
    return float(value)


def _expect(condition: bool, name: str, expected: str, actual: Any) -> None:
    if not condition:
        shown = repr(actual)
        raise BundleError(f"{name}: expected {expected}, got {shown if len(shown) < 200 else shown[:200] + '...'}")
