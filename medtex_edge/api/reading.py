"""The reading that programs get: what the device's own reading says, with the picture that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medtex_edge.runtime.reading import Reason, Verdict

if TYPE_CHECKING:
    import datetime

    import numpy as np
    import numpy.typing as npt

    from medtex_edge.contract import Contract
    from medtex_edge.image.geometry import FieldOfView
    from medtex_edge.runtime.frame import Pixels
    from medtex_edge.runtime.reading import QualityMetrics
    from medtex_edge.runtime.reading import Reading as RuntimeReading


class Reading:
    """What a bundle answers for one photograph or frame. Made by `OpenBundle.read` and by `stream`.

    An ungradable picture has a `reason` and a `detail`, and neither label nor probabilities nor saliency. The arrays
    are the reading's own: no later reading changes them.
    """

    def __init__(
        self, reading: RuntimeReading, contract: Contract, bundle_sha256: str, pixels: Pixels | None, layout: str
    ) -> None:
        self._reading, self._contract, self._sha256 = reading, contract, bundle_sha256
        self._pixels, self._layout = pixels, layout

    @property
    def verdict(self) -> Verdict:
        """`Verdict.REFERABLE`, `NOT_REFERABLE` or `UNGRADABLE`; equal to the strings "referable", ..."""
        return self._reading.verdict

    @property
    def reason(self) -> Reason | None:
        """Why the picture is ungradable, such as `Reason.BLURRED`; None where it was graded."""
        return self._reading.reason

    @property
    def detail(self) -> str:
        """The measurement behind `reason` as text; empty where the picture was graded."""
        return self._reading.detail

    @property
    def label(self) -> str:
        """The class with the highest probability; empty where the picture is ungradable."""
        return self._reading.label

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Class name -> probability in 0..1, in the order of the bundle's classes; None where ungradable."""
        if self._reading.probabilities is None:
            return None
        return dict(zip(self._contract.classes, map(float, self._reading.probabilities), strict=True))

    @property
    def referable_probability(self) -> float | None:
        """The summed probability of the referable classes, 0..1; None where ungradable."""
        return self._reading.referable_probability

    @property
    def threshold(self) -> float:
        """The operating point of the bundle: referable from this `referable_probability` on."""
        return self._contract.operating_point.threshold

    @property
    def saliency(self) -> npt.NDArray[np.float32] | None:
        """(h, w) float32 in 0..1 over the square of `field_of_view`; None where ungradable."""
        return self._reading.saliency

    @property
    def field_of_view(self) -> FieldOfView | None:
        """The square that was read: `left`, `top` and `side` in pixels of the picture; None where none was found."""
        return self._reading.field_of_view

    @property
    def quality(self) -> QualityMetrics | None:
        """Brightness, sharpness and more of the picture; None where it was refused before they were measured."""
        return self._reading.quality

    @property
    def source(self) -> str:
        """The photograph's path, the name given for an array, the camera, or the stream without its passwords."""
        return self._reading.source

    @property
    def frame(self) -> int:
        """The number of the frame in its source, from 0; dropped frames are counted too."""
        return self._reading.frame

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the picture in pixels; None where it could not be decoded."""
        return self._reading.size

    @property
    def captured(self) -> datetime.datetime:
        """When the picture was taken, UTC."""
        return self._reading.captured

    @property
    def age_ms(self) -> float:
        """Milliseconds from the capture of the picture to this reading."""
        return self._reading.age_ms

    @property
    def latency_ms(self) -> dict[str, float]:
        """Stage -> milliseconds: "read", "quality", "prepare", "infer"."""
        return dict(self._reading.latency_ms)

    def overlay(self) -> npt.NDArray[np.uint8]:
        """The picture with verdict and saliency drawn in: a new (H, W, 3) uint8 array, RGB.

        The saliency has the same fixed scale of colours in every picture. OpenCV wants BGR: `overlay()[..., ::-1]`.
        Raises `ImageError` for a photograph that could not be decoded.
        """
        import cv2

        from medtex_edge.errors import ImageError
        from medtex_edge.runtime.display.overlay import Overlay
        from medtex_edge.runtime.display.pixels import to_bgr

        if self._pixels is None:
            raise ImageError(
                f"{self.source}: expected a decoded picture to draw into, got none: {self.detail}",
                hint="check `reading.reason` before drawing",
            )
        pixels = self._pixels.copy() if self._layout == "bgr" else to_bgr(self._pixels, self._layout, None)
        Overlay(self._contract).draw(pixels, self._reading)
        picture: npt.NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return picture

    def as_dict(self) -> dict[str, Any]:
        """The object that `medtex-edge run --readings` writes as one line: schema "medtex-edge/reading/1"."""
        return self._reading.to_json(self._contract, self._sha256)

    def to_json(self) -> str:
        """`as_dict` as JSON text in one line."""
        import json

        return json.dumps(self.as_dict(), allow_nan=False)

    def __repr__(self) -> str:
        answer = self.label if self.reason is None else self.reason.value
        return f"Reading({self.source!r}, {self.verdict.value}: {answer})"
