"""Stability, randomisation and sparsity on maps whose behaviour is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from medtex_edge.evaluate.measures.sanity import max_sensitivity, randomisation, rank_correlations, shuffled, sparsity

SIZE, SIDE = 64, 16


def images(count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([cv2.GaussianBlur(rng.integers(60, 200, (SIZE, SIZE, 3)).astype(np.uint8), (0, 0), 3)] * count)


def brightness(pictures: np.ndarray) -> np.ndarray:
    """Mean of every cell of the mask: moves with the picture, and moves by as much as the noise does."""
    means = pictures.astype(np.float32).mean(axis=3)
    return means.reshape(len(pictures), SIDE, 4, SIDE, 4).mean(axis=(2, 4))


def test_a_map_that_moves_with_its_photograph_is_stable_and_one_that_stays_is_not() -> None:
    assert max_sensitivity(brightness, images(), draws=0) == pytest.approx(0)

    def nailed(pictures: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.random.default_rng(1).random((SIDE, SIDE)), (len(pictures), SIDE, SIDE))

    # Independent values a pixel apart: E (a - b)^2 / E a^2 = (1/6) / (1/3).
    assert max_sensitivity(nailed, images(), draws=0) == pytest.approx(np.sqrt(0.5), abs=0.1)
    assert max_sensitivity(nailed, images(), shifts=False) == pytest.approx(0)


def test_noise_counts_by_its_share_of_the_map() -> None:
    pictures = np.full((3, SIZE, SIZE, 3), 100, np.uint8)

    def first_pixel(x: np.ndarray) -> np.ndarray:
        return x[:, ::4, ::4, 0].astype(np.float32)

    # Uniform in -5..5 on 100: its root mean square is 5 / sqrt(3).
    found = max_sensitivity(first_pixel, pictures, noise=5, draws=3, shifts=False)
    assert found == pytest.approx(0.05 / np.sqrt(3), rel=0.15)
    assert max_sensitivity(first_pixel, pictures, noise=10, draws=3, shifts=False).mean() > 1.7 * found.mean()


def test_a_map_that_appears_out_of_nothing_has_no_bound() -> None:
    pictures = np.full((1, SIZE, SIZE, 3), 100, np.uint8)

    def above(x: np.ndarray) -> np.ndarray:
        return (brightness(x) > 101).astype(np.float32)

    assert max_sensitivity(above, pictures, noise=40, draws=2, shifts=False) == np.inf
    assert max_sensitivity(above, pictures, noise=0, draws=1) == 0


class Net(torch.nn.Module):
    """A map of one convolution over the cells, with a buffer that no shuffling may touch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 4, stride=4)
        self.head = torch.nn.Conv2d(4, 1, 3, padding=1)
        self.register_buffer("scale", torch.arange(5.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)))[:, 0]


@torch.no_grad()
def by_network(net: Net, pictures: np.ndarray) -> np.ndarray:
    return net(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - 0.5).numpy()


def test_shuffling_keeps_every_tensors_values_and_leaves_the_model_alone() -> None:
    net = Net()
    before = {name: weights.clone() for name, weights in net.state_dict().items()}
    other = shuffled(net, seed=1)
    for name, weights in net.state_dict().items():
        assert torch.equal(weights, before[name])
    for (_, a), (_, b) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
    assert not torch.equal(net.conv.weight, other.conv.weight)
    assert torch.equal(other.get_buffer("scale"), net.get_buffer("scale"))
    assert torch.equal(shuffled(net, seed=1).conv.weight, other.conv.weight)


def test_a_map_that_ignores_the_model_is_found_out() -> None:
    edges = randomisation(lambda _, pictures: brightness(pictures), Net(), images())
    assert edges == pytest.approx(1)
    noise = np.random.default_rng(2).integers(60, 200, (4, SIZE, SIZE, 3)).astype(np.uint8)
    drawn = iter(np.random.default_rng(3).random((4, 4, SIDE, SIDE)).astype(np.float32))
    assert randomisation(lambda *_: next(drawn), Net(), noise).max() < 0.15  # 256 pixels: a sigma is 0.06
    assert 0 <= randomisation(by_network, Net(), noise).max() < 1


def test_what_is_black_in_every_photograph_counts_for_nothing() -> None:
    pictures = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    pictures[:, 16:48, 16:48] = 120
    rng = np.random.default_rng(4)

    def low_outside(_: object, x: np.ndarray) -> np.ndarray:
        return np.where(brightness(x) > 60, rng.random((1, SIDE, SIDE)), -1)

    assert randomisation(low_outside, Net(), pictures, repeats=8)[0] < 0.35
    both = low_outside(None, pictures), low_outside(None, pictures)
    assert rank_correlations(*both)[0] > 0.5  # without the mask the black corners alone would appear as agreement


def test_the_rank_correlation_sees_order_alone_and_flat_maps_share_nothing() -> None:
    a = np.random.default_rng(5).random((2, 8, 8)).astype(np.float32)
    assert rank_correlations(a, a**3) == pytest.approx(1)
    assert rank_correlations(a, -a) == pytest.approx(-1)
    assert rank_correlations(a, np.ones_like(a)).tolist() == [0, 0]


def test_the_gini_index_of_known_maps_and_of_quantus() -> None:
    flat, single = np.full((1, 8, 8), 0.4, np.float32), np.zeros((1, 8, 8), np.float32)
    single[0, 3, 3] = 2
    assert sparsity(flat) == pytest.approx(0, abs=1e-9)
    assert sparsity(single) == pytest.approx(1 - 1 / 64)
    assert sparsity(np.zeros((1, 8, 8), np.float32)) == 0
    half = np.concatenate([np.zeros((1, 4, 8)), np.ones((1, 4, 8))], axis=1).astype(np.float32)
    assert sparsity(half) == pytest.approx(0.5)
    quantus = pytest.importorskip("quantus", reason="quantus is not installed")
    maps = np.random.default_rng(6).random((3, 8, 8)).astype(np.float32)
    metric = quantus.Sparseness(normalise=False, abs=True, disable_warnings=True)
    theirs = metric(model=None, x_batch=maps[:, None], y_batch=np.zeros(3, int), a_batch=maps[:, None])
    assert sparsity(maps) == pytest.approx(np.asarray(theirs), abs=1e-5)


def test_the_relative_change_is_that_of_quantus() -> None:
    quantus = pytest.importorskip("quantus", reason="quantus is not installed")
    net, pictures = Net().eval(), np.random.default_rng(7).integers(60, 200, (3, SIZE, SIZE, 3)).astype(np.uint8)
    shift = np.random.default_rng(8).integers(-5, 6, pictures.shape[1:])
    changed = (pictures + shift).astype(np.uint8)
    calls = iter([pictures, changed])
    mine = max_sensitivity(lambda _: by_network(net, next(calls)), pictures, draws=1, shifts=False)

    def widened(maps: np.ndarray) -> np.ndarray:
        return np.kron(maps[:, None], np.ones((1, 1, 4, 4)))  # Quantus wants maps of the photograph's size

    def to_net(x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5

    metric = quantus.MaxSensitivity(
        nr_samples=1,
        perturb_func=lambda arr, indices, **_: to_net(changed).reshape(arr.shape),
        normalise=False,
        abs=False,
        return_nan_when_prediction_changes=False,
        disable_warnings=True,
    )

    def explain(model: torch.nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        with torch.no_grad():
            return widened(model(torch.from_numpy(np.asarray(inputs, np.float32))).numpy())

    theirs = metric(
        model=net,
        x_batch=to_net(pictures),
        y_batch=np.zeros(3, int),
        a_batch=widened(by_network(net, pictures)),
        explain_func=explain,
        channel_first=True,
    )
    assert mine == pytest.approx(np.asarray(theirs), rel=1e-4)
