"""Depthwise convolution whose CPU gradients are computed at about the speed of its forward pass.

oneDNN lacks fast kernels for two of them (PyTorch 2.15, x86-64, bf16, channels last, one thread):
- the gradient with respect to the input of a strided convolution: 17 times its forward pass. The same gradient is a
  stride-1 convolution of the zero-stuffed output gradient with the mirrored kernel.
- the gradient with respect to a 5 x 5 kernel: 39 to 75 ms for the layers of an EfficientNet-Lite0, whose forward pass
  takes 1 to 3, while that of a 3 x 3 kernel is fast. A 5 x 5 gradient is four overlapping 3 x 3 ones: 3 to 17 ms.
Together a training step of a Lite0 takes about a third of the time. In fp32, measured with AVX2, its own kernels
were the faster ones (docs/evidence/history.md), so there, and on other devices, PyTorch keeps its own path.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            if ctx.stride > 1:
                grad_x = _input_gradient(grad, x, weight, ctx.stride, ctx.padding)
            else:
                grad_x = _own_gradients(grad, x, weight, 1, ctx.padding, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grad, x, weight, ctx.stride, ctx.padding)
        return grad_x, grad_weight, None, None


def _own_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, list(padding), [1, 1], False, [0, 0], x.shape[1], wanted
    )
    return gradients


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (C, 1, k, k): in blocks of 3 x 3 taps, each the gradient of a 3 x 3 kernel on the input moved."""
    size_y, size_x = weight.shape[-2:]
    if max(size_y, size_x) <= 3 or min(size_y, size_x) < 3:
        return _own_gradients(grad, x, weight, stride, padding, [False, True, False])[1]
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    height, width = (grad.shape[2] - 1) * stride + 3, (grad.shape[3] - 1) * stride + 3
    result, taps = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
    for y in _starts(size_y):
        for x0 in _starts(size_x):
            moved = padded[:, :, y : y + height, x0 : x0 + width].contiguous(memory_format=torch.channels_last)
            block = _own_gradients(grad, moved, taps, stride, (0, 0), [False, True, False])[1]
            result[:, :, y : y + 3, x0 : x0 + 3] = block
    return result


def _starts(size: int) -> list[int]:
    return [*range(0, size - 3, 3), size - 3]


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, H, W): the output gradient, zero-stuffed, under the mirrored kernel."""
    (pad_y, pad_x), (kernel_y, kernel_x) = padding, weight.shape[-2:]
    batch, channels, height, width = x.shape
    # Stuffed so that a valid stride-1 convolution gives the padded input's size: k - 1 zeros around, and the
    # rows that no window reached, at the far edge, as zeros too.
    stuffed = grad.new_zeros(
        (batch, channels, height + 2 * pad_y + kernel_y - 1, width + 2 * pad_x + kernel_x - 1)
    ).contiguous(memory_format=torch.channels_last)
    end_y = kernel_y - 1 + (grad.shape[2] - 1) * stride + 1
    end_x = kernel_x - 1 + (grad.shape[3] - 1) * stride + 1
    stuffed[:, :, kernel_y - 1 : end_y : stride, kernel_x - 1 : end_x : stride] = grad
    full = F.conv2d(stuffed, weight.flip(-1, -2), None, 1, 0, 1, channels)
    return full[:, :, pad_y : pad_y + height, pad_x : pad_x + width]


def _forward(self: nn.Conv2d, x: Tensor) -> Tensor:
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return type(self).forward(self, x)
    weight = self.weight
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    padding = self.padding
    if type(self) is not nn.Conv2d:  # timm's Conv2dSame: TensorFlow's asymmetric padding
        pads: list[int] = []
        for size, kernel in ((x.shape[3], self.kernel_size[1]), (x.shape[2], self.kernel_size[0])):
            total = max((-(size // -self.stride[0]) - 1) * self.stride[0] + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        x, padding = F.pad(x, pads), (0, 0)
    assert isinstance(padding, tuple)
    result = _Depthwise.apply(x, weight, self.stride[0], (int(padding[0]), int(padding[1])))
    assert isinstance(result, Tensor)
    return result


def speed_up_depthwise(model: nn.Module, dtype: torch.dtype | None) -> int:
    """Give the model's depthwise convolutions the fast CPU gradients, where `dtype`, of the autocast (None: fp32), is
    bf16; returns for how many. Weights, names and results stay the same (the method is patched on the instance, so a
    state dict is untouched)."""
    if dtype is not torch.bfloat16:
        return 0
    count = 0
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and type(module).__name__ in ("Conv2d", "Conv2dSame")
            and module.groups == module.in_channels == module.out_channels > 1
            and module.stride[0] == module.stride[1]
            and (module.stride[0] > 1 or min(module.kernel_size) > 3)
            and module.dilation == (1, 1)
            and module.bias is None
            and not isinstance(module.padding, str)
        ):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
            count += 1
    return count
