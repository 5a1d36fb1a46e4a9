"""Models that answer about photographs with parts hidden: what every measure of faithfulness is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.teacher import Teacher, to_size

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
# images (N, S, S, 3) and masks (N, h, w) in 0..1 -> probabilities (N, C) of x' = u(m) x + (1 - u(m)) b.
PredictMasked = Callable[[Images, Floats], npt.NDArray[np.floating[Any]]]

BATCH = 32


@dataclass(frozen=True)
class MaskedPredictor:
    """A model that predicts from photographs with parts hidden; call it, or `whole` for whole ones.

    predict: (N, 3, S, S) in 0..1 and masks (N, 1, h, w), None: nothing hidden -> probabilities (N, C).
    """

    predict: Callable[[Tensor, Tensor | None], Tensor]
    compute: Compute

    @classmethod
    def of_student(cls, model: MedTex, compute: Compute) -> MaskedPredictor:
        """A student: what is hidden is what it was taught to do without (`MedTex.masked`)."""
        model = model.to(compute.device).eval()

        def predict(x: Tensor, m: Tensor | None) -> Tensor:
            x = model.normalise(to_size(x, model.size))
            x = x if m is None else model.masked(x, m)
            with compute.autocast():
                logits = model.student(x.contiguous(memory_format=torch.channels_last))
            return torch.softmax(logits.float() / model.temperature, dim=1)

        return cls(predict, compute)

    @classmethod
    def of_teacher(cls, teacher: Teacher, compute: Compute, *, grid: int = 14) -> MaskedPredictor:
        """A teacher: what is hidden is the photograph blurred to `grid` cells, as for students. It was not trained on
        such photographs."""

        def predict(x: Tensor, m: Tensor | None) -> Tensor:
            x = to_size(x, teacher.size)
            if m is not None:
                side = x.shape[-2:]
                blurred = F.interpolate(F.adaptive_avg_pool2d(x, grid), side, mode="bilinear", align_corners=False)
                x = blurred + F.interpolate(m, side, mode="bilinear", align_corners=False) * (x - blurred)
            return teacher.answer(x).probabilities

        return cls(predict, compute)

    def cached(self) -> MaskedPredictor:
        """The same, which predicts only once for a batch that is wholly hidden or wholly shown: the ends of every
        curve."""
        known: dict[tuple[float, bytes], Tensor] = {}

        def predict(x: Tensor, m: Tensor | None) -> Tensor:
            if m is None or (value := float(m.min())) != float(m.max()) or value not in (0.0, 1.0):
                return self.predict(x, m)
            key = (value, hashlib.blake2b(x.cpu().contiguous().numpy().tobytes()).digest())
            if key not in known:
                known[key] = self.predict(x, m)
            return known[key]

        return MaskedPredictor(predict, self.compute)

    def __call__(self, images: Images, masks: Floats) -> Floats:
        """images (N, S, S, 3) uint8, masks (N, h, w) in 0..1, 1 is visible -> probabilities (N, C)."""
        return self._in_batches(images, masks)

    def whole(self, images: Images) -> Floats:
        """images (N, S, S, 3) uint8 -> probabilities (N, C)."""
        return self._in_batches(images, None)

    @torch.no_grad()
    def _in_batches(self, images: Images, masks: Floats | None) -> Floats:
        device, parts = self.compute.device, []
        for start in range(0, len(images), BATCH):
            # Copied: photographs are mapped from a file that must not be written to.
            x = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
            x = x.permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
            m = None
            if masks is not None:
                m = torch.from_numpy(np.array(masks[start : start + BATCH], np.float32))[:, None].to(device)
            parts.append(self.predict(x, m).float().cpu().numpy())
        result: Floats = np.concatenate(parts)
        return result
