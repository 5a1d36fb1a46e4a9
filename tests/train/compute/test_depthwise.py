"""The fast gradients of depthwise convolutions, held to PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medtex_edge.train.compute.depthwise import speed_up_depthwise


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    height=st.integers(7, 20),
    width=st.integers(7, 20),
    channels=st.integers(2, 5),
)
def test_gradients_equal_pytorchs_for_every_geometry(
    kernel: int, stride: int, padding: int, height: int, width: int, channels: int
) -> None:
    torch.manual_seed(0)
    padding = min(padding, kernel - 1)
    plain = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False).double()
    fast = copy.deepcopy(plain)
    # At stride 1 small kernels have fast gradients already.
    assert speed_up_depthwise(fast, torch.bfloat16) == (stride > 1 or kernel > 3)
    a = torch.randn(2, channels, height, width, dtype=torch.double, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    out_a, out_b = plain(a), fast(b)
    torch.testing.assert_close(out_a, out_b)
    weight = torch.randn_like(out_a)
    (out_a * weight).sum().backward()
    (out_b * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(plain.weight.grad, fast.weight.grad)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv4_conv_small"])
def test_a_whole_network_learns_the_same(name: str) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=3).double().eval()
    fast = copy.deepcopy(plain)
    assert speed_up_depthwise(fast, torch.bfloat16) >= 2
    x = torch.randn(2, 3, 65, 96, dtype=torch.double)
    plain(x).square().sum().backward()
    fast(x).square().sum().backward()
    for a, b in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_the_state_dict_and_copies_are_untouched() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False))
    keys = list(net.state_dict())
    speed_up_depthwise(net, torch.bfloat16)
    twin = copy.deepcopy(net)
    assert list(twin.state_dict()) == keys
    with torch.no_grad():
        net[0].weight.zero_()
    # A copy must run on its own weights, not on those of the module that it was copied from.
    x = torch.ones(1, 4, 8, 8, requires_grad=True)
    assert float(twin(x).abs().sum().detach()) > 0
    assert float(net(x).abs().sum().detach()) == 0


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_where_pytorchs_own_gradients_are_the_faster_ones_they_stay(dtype: torch.dtype | None) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 5, 2, 1, groups=4, bias=False))
    assert speed_up_depthwise(net, dtype) == 0
    assert "forward" not in vars(net[0])
    assert speed_up_depthwise(net, torch.bfloat16) == 1
    assert "forward" in vars(net[0])
