"""Attribution methods find what a toy classifier decides by, at every stage and on one grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medtex_edge.errors import SettingsError
from medtex_edge.evaluate.maps.attribution import CAMS, NAMES, attribution_methods, check_names
from medtex_edge.evaluate.maps.cams import cams, layers
from medtex_edge.evaluate.maps.perturbation import rise
from medtex_edge.evaluate.maps.target import AttributionTarget, Floats, referable_log_odds, to_grid
from medtex_edge.evaluate.masked_predictor import MaskedPredictor
from medtex_edge.train.compute.device import Compute

SIZE, GRID = 64, 16
CPU = Compute(torch.device("cpu"), None)


class Red(nn.Module):
    """Referable (class 1) is what has much red: the mean of red minus green, through two stages."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, 1, 1, bias=False), nn.AvgPool2d(4)
        first.weight.data = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)
        self.blocks = nn.Sequential(nn.Sequential(first, nn.ReLU()), second)
        self.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

    def forward(self, x: Tensor) -> Tensor:
        red = self.blocks(x).mean(dim=(1, 2, 3)) * 40
        return torch.stack([-red, red - 1], dim=1)


def picture() -> np.ndarray:
    """Grey with a red patch in its upper right quarter; rows 8 to 24, columns 40 to 56."""
    image = np.random.default_rng(0).integers(90, 110, (SIZE, SIZE, 3), np.uint8)
    image[8:24, 40:56] = (220, 30, 30)
    return image


def target(net: nn.Module) -> AttributionTarget:
    return AttributionTarget("student", net.eval(), SIZE, (1,), CPU)


def predictor(net: Red) -> MaskedPredictor:
    def answer(x: Tensor, m: Tensor | None) -> Tensor:
        if m is not None:
            u = nn.functional.interpolate(m, x.shape[-2:], mode="bilinear", align_corners=False)
            x = x.mean(dim=(2, 3), keepdim=True) * (1 - u) + u * x
        return torch.softmax(net(x), dim=1)

    return MaskedPredictor(answer, CPU)


def test_every_attribution_method_finds_the_patch_that_decides() -> None:
    net = Red()
    images = np.stack([picture(), np.flip(picture(), axis=(0, 1))])
    found = attribution_methods(NAMES, target(net), images, grid=GRID, predict=predictor(net))
    assert {name for name, _ in found} == set(NAMES)
    for key, each in found.items():
        assert each.maps.shape == (2, GRID, GRID), key
        assert each.maps.dtype == np.float32
        assert each.maps.min() >= 0
        for index, (rows, columns) in enumerate(((slice(2, 6), slice(10, 14)), (slice(10, 14), slice(2, 6)))):
            inside = each.maps[index, rows, columns].mean()
            everywhere = each.maps[index].mean()
            assert inside > 2 * everywhere or (key[0] == "rise" and inside > 1.3 * everywhere), key
            y, x = np.unravel_index(each.maps[index].argmax(), (GRID, GRID))
            near = 2 if key[0] == "rise" else 0  # its cells are wider than the patch
            assert rows.start - near <= y < rows.stop + near, key
            assert columns.start - near <= x < columns.stop + near, key


def test_cams_come_from_every_stage_in_their_order() -> None:
    found = attribution_methods(["gradcam"], target(Red()), picture()[None], grid=GRID)
    assert list(found) == [("gradcam", "stage 1"), ("gradcam", "stage 2")]
    import timm

    names = list(layers(timm.create_model("test_efficientnet", pretrained=False)))
    assert names[0] == "stage 1"
    assert names[-1] == "head"
    assert len(names) > 3


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_other_families_of_classifiers_can_be_explained_too(name: str) -> None:
    import timm

    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, num_classes=3)
    size = int(net.pretrained_cfg["input_size"][-1])
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    found = attribution_methods(
        CAMS[:1], AttributionTarget("teacher", net.eval(), size, (1, 2), CPU), images, grid=GRID
    )
    assert len(found) > 1
    assert all(each.maps.shape == (2, GRID, GRID) and np.isfinite(each.maps).all() for each in found.values())


def test_one_stage_alone_gives_the_same_map_as_all_together() -> None:
    images = picture()[None]
    every = cams("layercam", target(Red()), images, grid=GRID)
    alone = cams("layercam", target(Red()), images, grid=GRID, only="stage 2")
    assert np.array_equal(alone["stage 2"], every["stage 2"])


def test_rise_is_left_out_without_a_masked_predictor() -> None:
    assert attribution_methods(["rise"], target(Red()), picture()[None], grid=GRID) == {}


def test_rise_of_a_model_that_ignores_its_input_is_flat() -> None:
    maps = rise(lambda images, masks: np.full((len(images), 2), 0.5, np.float32), picture()[None], (1,), grid=GRID)
    assert not maps.any()


def test_referable_log_odds_are_the_log_odds_of_the_verdict() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    p = torch.softmax(logits, 1)[0]
    expected = torch.log((p[2] + p[3]) / (p[0] + p[1]))
    assert referable_log_odds(logits, (2, 3)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_maps_go_to_the_grid_by_means_and_back_without_new_extremes() -> None:
    maps: Floats = np.zeros((1, 32, 32), np.float32)
    maps[0, :2, :2] = 1
    assert to_grid(maps, 16)[0, 0, 0] == 1
    assert to_grid(maps, 8)[0, 0, 0] == pytest.approx(0.25)
    assert to_grid(maps[:, :4, :4], 8).max() <= 1


def test_an_unknown_attribution_method_is_named_with_those_that_exist() -> None:
    assert check_names(["GradCAM", " rise ", "rise", ""]) == ("gradcam", "rise")
    with pytest.raises(SettingsError) as caught:
        check_names(["gradcam", "smoothgrad"])
    assert "'smoothgrad'" in caught.value.message
    assert "layercam" in caught.value.hint
