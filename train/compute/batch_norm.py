"""Batch norm whose statistics are those of the whole batch, however many processes share it.

PyTorch's SyncBatchNorm needs GPUs. On CPUs the layers' forward is replaced by the same mathematics, so that several
processes can be proved to do what one does (Ioffe & Szegedy, ICML 2015, over the union of the processes' slices).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _forward(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if not self.training:
        return type(self).forward(self, x)
    y = _normalised(self, x)
    for name in ("drop", "act"):  # timm's BatchNormAct2d goes on with these
        if hasattr(self, name):
            y = getattr(self, name)(y)
    return y


def _normalised(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """(N, C, h, w) -> the same, by mean and variance over all processes; moves the running statistics."""
    rows = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    count = rows.numel() // rows.shape[1]
    variance, mean = torch.var_mean(rows, dim=(0, 2, 3), correction=0)
    # float64: a variance out of a mean of squares cancels otherwise.
    mean64, square64 = mean.double(), variance.double() + mean.double().square()
    weight = torch.full_like(mean64[:1], count)
    total: Tensor = _Sum.apply(torch.cat([count * mean64, count * square64, weight]))
    n = total[-1]
    mean64, square64 = (total[:-1] / n).chunk(2)
    variance64 = square64 - mean64.square()
    if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean64.to(self.running_mean.dtype), rate)
            self.running_var.lerp_((variance64 * n / (n - 1)).to(self.running_var.dtype), rate)
    scale = (variance64 + self.eps).rsqrt().to(rows.dtype)
    y = (rows - mean64.to(rows.dtype)[:, None, None]) * scale[:, None, None]
    if self.affine:
        y = y * self.weight[:, None, None] + self.bias[:, None, None]
    return y.to(x.dtype)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch norm of the module count over all processes. State dicts and answers stay the same."""
    if device.type != "cpu":
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    return module
