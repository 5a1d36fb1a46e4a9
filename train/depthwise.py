"""Strided depthwise convolution whose CPU gradient is computed at the speed of its forward pass.

oneDNN has no fast kernel for the gradient of a strided depthwise convolution with respect to its input: measured
with PyTorch 2.15 on two x86-64 cores (bf16, channels last, 16 x 96 x 112 x 112, 3 x 3, stride 2) it takes 166 ms
where the forward pass takes 10. The same gradient is a stride-1 convolution of the zero-stuffed output gradient
with the mirrored kernel, for which a fast kernel exists. On an EfficientNet-Lite0 this halves a training step.
Other devices keep PyTorch's own path.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _StridedDepthwise(torch.autograd.Function):
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
            grad_x = _input_gradient(grad, x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            _, grad_weight, _ = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                None,
                [ctx.stride] * 2,
                list(ctx.padding),
                [1, 1],
                False,
                [0, 0],
                x.shape[1],
                [False, True, False],
            )
        return grad_x, grad_weight, None, None


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
    result = _StridedDepthwise.apply(x, weight, self.stride[0], (int(padding[0]), int(padding[1])))
    assert isinstance(result, Tensor)
    return result


def speed_up_depthwise(model: nn.Module) -> int:
    """Give the model's strided depthwise convolutions the fast CPU gradient; returns how many. Weights, names
    and results stay the same (the method is patched on the instance, so a state dict is untouched)."""
    count = 0
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and type(module).__name__ in ("Conv2d", "Conv2dSame")
            and module.groups == module.in_channels == module.out_channels > 1
            and module.stride[0] == module.stride[1] > 1
            and module.dilation == (1, 1)
            and module.bias is None
            and not isinstance(module.padding, str)
        ):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
            count += 1
    return count
