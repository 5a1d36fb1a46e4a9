"""The loop: rates, averaging, early stopping, and resume that ends with the same weights."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from medtex_edge.errors import DataError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.fit import Batch, Fit, Phase, Recipe, average, batches, cosine
from medtex_edge.train.loop.reporter import Reporter, write_history

CPU = Compute(torch.device("cpu"), None)
RECIPE = Recipe(batch=4, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.9, patience=0, seed=3)


def _photos(count: int = 18) -> Photos:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    labels = (images[..., 0].mean((1, 2)) > 127).astype(np.int64)
    return Photos(images, labels, tuple(str(i) for i in range(count)))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 2))


def _phase(epochs: int, *, killed_at: int | None = None, name: str = "first") -> Phase:
    seen = {"steps": 0}

    def step(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        seen["steps"] += 1
        if killed_at is not None and seen["steps"] > killed_at:
            raise KeyboardInterrupt
        noisy = batch.images + 0.1 * torch.randn_like(batch.images)
        return {"label": nn.functional.cross_entropy(module(noisy), batch.labels)}

    def validate(module: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            (batch,) = batches(_photos(), 32, CPU)
            return {"val_loss": float(nn.functional.cross_entropy(module(batch.images), batch.labels))}

    return Phase(name, epochs, lambda m: [(list(m.parameters()), 0.05)], step, validate)


def _fit(folder: Path, *phases: Phase, key: str = "k") -> Fit:
    reporter = Reporter(Console(file=io.StringIO()), folder)
    fit = Fit(_net(), _photos(), RECIPE, CPU, reporter, folder / "checkpoint.pt", key)
    fit.run(list(phases))
    return fit


@pytest.mark.parametrize("killed_at", [7, 11, 23, 28])
def test_a_run_killed_in_mid_epoch_ends_with_the_same_weights(tmp_path: Path, killed_at: int) -> None:
    whole = _fit(tmp_path / "a", _phase(4), _phase(3, name="second"))
    first_kill = killed_at if killed_at < 20 else None
    second_kill = killed_at - 20 if killed_at >= 20 else None
    phases = _phase(4, killed_at=first_kill), _phase(3, killed_at=second_kill, name="second")
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "b", *phases)
    resumed = _fit(tmp_path / "b", _phase(4), _phase(3, name="second"))
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    assert [row["val_loss"] for row in whole.history] == [row["val_loss"] for row in resumed.history]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    _fit(tmp_path, _phase(1))
    with pytest.raises(DataError, match="other settings"):
        _fit(tmp_path, _phase(1), key="another")


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        _fit(tmp_path, _phase(1))


def test_a_loss_that_is_not_finite_names_its_term(tmp_path: Path) -> None:
    phase = _phase(1)
    phase.step = lambda module, batch: {"out": module(batch.images).sum(), "mid": torch.tensor(float("nan"))}
    with pytest.raises(DataError, match=r"by mid"):
        _fit(tmp_path, phase)


def test_a_phase_that_stops_getting_better_ends_early_with_its_best_weights(tmp_path: Path) -> None:
    phase, values = _phase(40), iter([3.0, 1.0, *[2.0] * 40])
    phase.validate = lambda module: {"val_loss": next(values)}
    reporter = Reporter(Console(file=io.StringIO()), tmp_path)
    recipe = Recipe(4, 0.01, 0.1, 1.0, 0.9, patience=2, seed=0)
    fit = Fit(_net(), _photos(), recipe, CPU, reporter, tmp_path / "c.pt", "k")
    fit.run([phase])
    assert len(fit.history) == 4


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [cosine(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert rates[-1] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_averaging_moves_weights_and_copies_counters() -> None:
    ema, net = _net(), _net()
    with torch.no_grad():
        net[0].weight.add_(1)
        net[1].num_batches_tracked.fill_(9)
    before = ema[0].weight.clone()
    average(ema, net, 0.75)
    torch.testing.assert_close(ema[0].weight, before + 0.25)
    assert int(ema[1].num_batches_tracked) == 9


def test_batches_never_leave_one_photograph_to_batch_norm() -> None:
    sizes = [len(b.labels) for b in batches(_photos(9), 4, CPU, order=np.random.default_rng(0))]
    assert sizes == [4, 4]
    assert [len(b.labels) for b in batches(_photos(9), 4, CPU)] == [4, 4, 1]


def test_the_history_has_a_column_for_every_term_of_every_phase(tmp_path: Path) -> None:
    write_history(tmp_path / "h.csv", [{"phase": "a", "out": 1.0}, {"phase": "b", "tv": 0.5}])
    assert (tmp_path / "h.csv").read_text().splitlines() == ["phase,out,tv", "a,1,", "b,,0.5"]
