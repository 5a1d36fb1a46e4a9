"""A reading: the result of one frame. docs/reference/readings.md describes its JSON."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract

if TYPE_CHECKING:
    from medtex_edge.image.geometry import FieldOfView

SCHEMA = "medtex-edge/reading/1"


class Verdict(str, enum.Enum):
    """The three values of a verdict."""

    REFERABLE = "referable"
    NOT_REFERABLE = "not referable"
    UNGRADABLE = "ungradable"


class Reason(str, enum.Enum):
    """Why a frame is ungradable."""

    UNREADABLE = "unreadable"
    STALE = "stale"
    DUPLICATE = "duplicate"
    BLACK = "black"
    NO_FIELD_OF_VIEW = "no field of view"
    TOO_DARK = "too dark"
    TOO_BRIGHT = "too bright"
    BLURRED = "blurred"
    MOVING = "moving"


@dataclass(frozen=True)
class QualityMetrics:
    """The metrics of one frame; levels 0..255, shares 0..1."""

    brightness: float  # mean of the brightest channel
    grey: float  # mean luma
    clipped: float  # share of pixels with a channel at 250 or more
    sharpness: float  # detail of 1 to 1.4 pixels over detail of 2 to 4
    coverage: float  # share of the disc that is visible

    def to_json(self) -> dict[str, float]:
        """A value for `json.dumps`."""
        return {name: round(float(value), 4) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Reading:
    """The result of one frame. An ungradable frame has a reason and no probabilities: it was not scored."""

    source: str
    frame: int
    captured: datetime.datetime  # UTC
    age_ms: float  # from capture to this reading
    size: tuple[int, int] | None  # width, height in pixels
    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    label: str = ""
    probabilities: npt.NDArray[np.float32] | None = None  # (C,)
    referable_probability: float | None = None
    frame_referable_probability: float | None = None  # of this frame alone, where readings are averaged
    smoothed_frames: float | None = None  # effective number of frames in the average; 1: this one alone
    saliency: npt.NDArray[np.float32] | None = None  # (h, w), 0..1 over the field of view's box
    field_of_view: FieldOfView | None = None
    quality: QualityMetrics | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self, contract: Contract, bundle_sha256: str) -> dict[str, Any]:
        """A value for `json.dumps`; the map itself is left out, its mean is in `saliency_area`."""
        scored = self.probabilities is not None
        fov = self.field_of_view
        return {
            "schema": SCHEMA,
            "source": self.source,
            "frame": self.frame,
            "captured": self.captured.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "age_ms": round(self.age_ms, 3),
            "size": list(self.size) if self.size else None,
            "verdict": self.verdict.value,
            "reason": self.reason.value if self.reason else None,
            "detail": self.detail or None,
            "label": self.label if scored else None,
            "probabilities": None if self.probabilities is None else {
                name: round(float(p), 6) for name, p in zip(contract.classes, self.probabilities, strict=True)
            },
            "referable_probability": None if self.referable_probability is None
            else round(self.referable_probability, 6),
            "frame_referable_probability": None if self.frame_referable_probability is None
            else round(self.frame_referable_probability, 6),
            "smoothed_frames": None if self.smoothed_frames is None else round(self.smoothed_frames, 2),
            "threshold": contract.operating_point.threshold,
            "saliency_area": None if self.saliency is None else round(float(self.saliency.mean()), 6),
            "field_of_view": None if fov is None else
            {"left": fov.left, "top": fov.top, "side": fov.side, "coverage": round(float(fov.coverage), 4)},
            "quality": None if self.quality is None else self.quality.to_json(),
            "latency_ms": {stage: round(value, 3) for stage, value in self.latency_ms.items()},
            "bundle": bundle_sha256,
        }  # fmt: skip
