"""Class activation maps of every stage of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from medtex_edge.evaluate.maps.target import BATCH, AttributionTarget, Floats, Images, referable_log_odds, to_grid


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
