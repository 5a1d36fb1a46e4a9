"""Attribution methods: CAMs at every stage of a classifier, integrated gradients, RISE.

They explain a classifier that was trained without them, so they can be made of teacher and student alike. All of them
explain the same number, `referable_log_odds`, and end as maps on one grid: values mean an order, not an amount.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medtex_edge.errors import SettingsError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.teacher import to_size
from medtex_edge.train.models.weights import normalisation

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
PredictMasked = Callable[[Images, Floats], Floats]  # images (N, S, S, 3), masks (N, h, w) -> probabilities (N, C)
Tick = Callable[[], None]

CAMS = ("gradcam", "gradcam++", "layercam")
NAMES = (*CAMS, "ig", "rise")
SLOW = ("ig", "rise")
TITLES = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "ig": "integrated gradients",
    "rise": "RISE",
}
BATCH = 8  # a CAM of every stage keeps every stage's features and gradients
IG_STEPS = 10  # points on the path from the blurred photograph; each costs a forward and a backward pass
RISE_MASKS = 128  # the paper takes thousands; each costs a forward pass per photograph
RISE_CELLS = 7
RISE_OPEN = 0.5


@dataclass(frozen=True)
class AttributionTarget:
    """A classifier to be explained, and what it takes: pictures of `size` pixels in its own normalisation."""

    of: str  # "teacher" or "student"
    net: nn.Module  # (N, 3, S, S) normalised -> logits (N, C)
    size: int
    referable: tuple[int, ...]
    compute: Compute

    def tensor(self, images: Images) -> Tensor:
        """(N, S', S', 3) uint8 -> (N, 3, S, S) in the classifier's range."""
        x = torch.from_numpy(np.array(images)).to(self.compute.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v, device=self.compute.device).view(1, 3, 1, 1) for v in self._range())
        return (to_size(x, self.size) - mean) / std

    def _range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return normalisation(getattr(self.net, "net", self.net))


@dataclass(frozen=True)
class AttributionMaps:
    """maps (N, h, w) float32, higher is more important; seconds per photograph, of all layers of a CAM together."""

    maps: Floats
    seconds: float


def referable_log_odds(logits: Tensor, referable: Sequence[int]) -> Tensor:
    """(..., C) -> (...): the log-odds of the referable classes against the others, which the verdict is made from."""
    chosen = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    chosen[list(referable)] = True
    return torch.logsumexp(logits[..., chosen], -1) - torch.logsumexp(logits[..., ~chosen], -1)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, once each. Raises `SettingsError` that lists what there is."""
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    if unknown := [name for name in chosen if name not in NAMES]:
        raise SettingsError(f"--against: there is no {unknown[0]!r}", hint=f"choose from {', '.join(NAMES)}")
    return chosen


def attribution_methods(
    names: Sequence[str],
    target: AttributionTarget,
    images: Images,
    *,
    grid: int,
    predict: PredictMasked | None = None,
    tick: Tick | None = None,
) -> dict[tuple[str, str], AttributionMaps]:
    """(name, layer) -> maps of `images` (N, S, S, 3) at `grid` cells a side; the layer is "" where there is none.

    RISE needs `predict`, the masked predictor of the same classifier, and is left out without it. `tick` is called
    once per method.
    """
    found: dict[tuple[str, str], AttributionMaps] = {}
    for name in names:
        start = time.perf_counter()
        if name in CAMS:
            maps = cams(name, target, images, grid=grid)
        elif name == "ig":
            maps = {"": integrated_gradients(target, images, grid=grid)}
        else:
            maps = {"": rise(predict, images, target.referable, grid=grid)} if predict else {}
        seconds = (time.perf_counter() - start) / max(len(images), 1)
        found |= {(name, layer): AttributionMaps(m, seconds) for layer, m in maps.items()}
        if tick is not None:
            tick()
    return found


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """The stages of a timm classifier by name, from the first to the last features before pooling."""
    inner: Any = getattr(net, "net", net)
    blocks = getattr(inner, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList):
        stages = {f"stage {number + 1}": block for number, block in enumerate(blocks)}
        head = getattr(inner, "bn2", None)
        return stages | ({"head": head} if isinstance(head, nn.Module) else {})
    named = dict(inner.named_modules())
    info = getattr(inner, "feature_info", None)
    modules = [stage["module"] for stage in info if stage["module"] in named] if isinstance(info, list) else []
    return {f"stage {number + 1}": named[module] for number, module in enumerate(modules)}


def cams(name: str, target: AttributionTarget, images: Images, *, grid: int, only: str = "") -> dict[str, Floats]:
    """Grad-CAM (Selvaraju et al., ICCV 2017), Grad-CAM++ (Chattopadhay et al., WACV 2018) or LayerCAM (Jiang et al.,
    TIP 2021) by pytorch-grad-cam, of every stage in one pass or of `only` one: stage -> (N, grid, grid) in 0..1."""
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, LayerCAM

    stages = {stage: layer for stage, layer in layers(target.net).items() if only in ("", stage)}
    if not stages:
        return {}
    kind: Any = {"gradcam": GradCAM, "gradcam++": GradCAMPlusPlus, "layercam": LayerCAM}[name]
    prefix = int(getattr(getattr(target.net, "net", target.net), "num_prefix_tokens", 0))
    parts: list[Floats] = []
    with kind(target.net, list(stages.values()), reshape_transform=lambda t: _spatial(t, prefix)) as cam:
        # The library averages over the layers that it is given; each is wanted by itself.
        cam.aggregate_multi_layers = lambda by_layer: np.concatenate(by_layer, axis=1)
        for start in range(0, len(images), BATCH):
            x = target.tensor(images[start : start + BATCH]).requires_grad_()
            targets = [lambda logits: referable_log_odds(logits, target.referable)] * len(x)
            parts.append(np.asarray(cam(x, targets), np.float32))  # (n, layers, S, S)
    every = np.concatenate(parts)
    return {stage: to_grid(every[:, index], grid) for index, stage in enumerate(stages)}


def _spatial(t: Tensor, prefix: int) -> Tensor:
    """Tokens of a transformer (N, T, C) -> (N, C, h, w); what is spatial already stays."""
    if t.ndim != 3:
        return t
    side = round((t.shape[1] - prefix) ** 0.5)
    return t[:, t.shape[1] - side * side :].transpose(1, 2).reshape(len(t), -1, side, side)


def integrated_gradients(target: AttributionTarget, images: Images, *, grid: int) -> Floats:
    """Integrated gradients (Sundararajan et al., ICML 2017) by captum, from the blurred photograph; the absolute
    sum over the colours, averaged over each cell: (N, grid, grid)."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(lambda x: referable_log_odds(target.net(x).float(), target.referable))
    parts = []
    for start in range(0, len(images), BATCH):
        x = target.tensor(images[start : start + BATCH])
        small = nn.functional.adaptive_avg_pool2d(x, 14)
        blurred = nn.functional.interpolate(small, x.shape[-2:], mode="bilinear", align_corners=False)
        with target.compute.autocast():
            found = method.attribute(x, baselines=blurred, n_steps=IG_STEPS, internal_batch_size=2 * BATCH)
        parts.append(found.detach().sum(1).abs().cpu().numpy().astype(np.float32))
    return to_grid(np.concatenate(parts), grid)


def rise(predict: PredictMasked, images: Images, referable: Sequence[int], *, grid: int, seed: int = 0) -> Floats:
    """RISE (Petsiuk et al., BMVC 2018): the mean of random masks, each weighted by the referable probability under
    it. What a mask hides is blurred as for every other measure, not black. (N, S, S, 3) -> (N, grid, grid)."""
    masks = _rise_masks(grid, seed)
    parts = []
    for image in images:
        scores = predict(np.broadcast_to(image, (len(masks), *image.shape)), masks)[:, list(referable)].sum(1)
        # Centred, which the paper leaves to its thousands of masks: the mean score times the masks' own unevenness.
        found = np.tensordot(scores - scores.mean(), masks, 1) / len(masks)
        parts.append(found - found.min())
    return np.stack(parts).astype(np.float32)


def _rise_masks(grid: int, seed: int) -> Floats:
    """(RISE_MASKS, grid, grid): random cells, enlarged smoothly and shifted by part of a cell."""
    rng = np.random.default_rng(seed)
    cell = -(-grid // RISE_CELLS)
    side = (RISE_CELLS + 1) * cell
    masks = np.empty((RISE_MASKS, grid, grid), np.float32)
    for mask in masks:
        cells = (rng.random((RISE_CELLS + 1, RISE_CELLS + 1)) < RISE_OPEN).astype(np.float32)
        y, x = rng.integers(0, cell, 2)
        mask[:] = cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR)[y : y + grid, x : x + grid]
    return masks


def to_grid(maps: Floats, grid: int) -> Floats:
    """(N, h, w) -> (N, grid, grid): averaged where the map is finer, bilinear where it is coarser."""
    if maps.shape[1] == grid:
        return maps.astype(np.float32)
    how = cv2.INTER_AREA if maps.shape[1] > grid else cv2.INTER_LINEAR
    return np.stack([cv2.resize(m, (grid, grid), interpolation=how) for m in maps.astype(np.float32)])
