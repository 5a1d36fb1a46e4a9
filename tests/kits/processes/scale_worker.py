"""One process of tests/train/compute/test_scale.py: a small training in float64, alone or by torchrun."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from medtex_edge.errors import DataError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.compute.processes import count_in_last, group, rank0_errors, shutdown
from medtex_edge.train.data.augment import Augment
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.fit import Batch, Fit, Phase, Recipe, batches
from medtex_edge.train.loop.reporter import Reporter
from medtex_edge.train.losses.masks import random_masks

CPU = Compute(torch.device("cpu"), None)
RECIPE = Recipe(batch=8, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.9, patience=9, seed=3)


class Watch(Reporter):
    """Keeps the sums of the terms after every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Console(file=io.StringIO()), folder)
        self.seen: list[dict[str, float]] = []

    def step(self, phase: str, epoch: int, epochs: int, done: int, steps: int, sums: dict[str, Tensor]) -> None:
        self.seen.append({name: float(value) for name, value in sums.items()})


def photos(count: int = 28) -> Photos:
    """28: the last batch of an epoch is a smaller one."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8)
    return Photos(images, (images.mean((1, 2, 3)) > 127).astype(np.int64), tuple(map(str, range(count))))


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2), nn.BatchNorm2d(4)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 2)).double()


def phase(mode: str) -> Phase:
    """Augmentation, random masks, a part of the batch treated otherwise: all that must not depend on processes."""
    augment, taken = Augment(), [0]

    def step(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        taken[0] += 1
        if taken[0] == 5 and group().index == group().count - 1:
            if mode == "fail":
                raise DataError("this process has had enough")
            if mode.startswith("vanish"):
                os.kill(os.getpid(), signal.SIGKILL)
        if mode == "vanish far" and taken[0] == 5:
            time.sleep(60)  # this process is busy for long: its launcher sees the loss before it does
        x = augment(batch.images)
        m = nn.functional.interpolate(random_masks(len(x), 8), 16)
        plain = len(x) - count_in_last(0.4, len(x))
        x = torch.cat([x[:plain], (m * x)[plain:]])
        logits = module(x.double())
        if mode == "nan" and taken[0] == 5 and group().main:
            logits = logits * float("nan")
        return {"label": nn.functional.cross_entropy(logits, batch.labels), "size": 1e-3 * logits.square().mean()}

    def validate(module: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            (batch,) = batches(photos(), 32, CPU)
            return {"val_loss": float(nn.functional.cross_entropy(module(batch.images.double()), batch.labels))}

    return Phase("only", 3, lambda m: [(list(m.parameters()), 0.02)], step, validate)


def train(folder: Path, mode: str) -> dict[str, Any]:
    """Three epochs of four steps; mode 'stop' is interrupted after the first checkpoint."""
    watch = Watch(folder)
    fit = Fit(net(), photos(), RECIPE, CPU, watch, folder / "checkpoint.pt", "key")
    only = phase(mode)
    if mode == "stop":
        validate, times = only.validate, iter([True, False])

        def once(module: nn.Module) -> dict[str, float]:
            if not next(times):
                raise KeyboardInterrupt
            return validate(module)

        only.validate = once
    fit.run([only])
    weights = torch.cat([value.double().flatten() for value in fit.module.state_dict().values()])
    return {"steps": watch.seen, "history": [r["val_loss"] for r in fit.history], "weights": weights.tolist()}


def main(folder: Path, mode: str) -> int:
    """What a command does around a training."""
    folder.mkdir(exist_ok=True)
    try:
        with rank0_errors():
            found = train(folder, mode)
    except KeyboardInterrupt:
        return 130
    if group().main:
        (folder / "found.json").write_text(json.dumps(found | {"processes": group().count}))
    shutdown()
    return 0


if __name__ == "__main__":
    from click.exceptions import Exit

    from medtex_edge.errors import MedtexError

    try:
        code = main(Path(sys.argv[1]), sys.argv[2])
    except MedtexError as error:
        print(f"error: {error.message}", file=sys.stderr)
        code = error.exit_code
    except Exit as silent:
        code = silent.exit_code
    sys.exit(code)
