"""One loop for every training: cosine rates, clipping, EMA, early stopping, checkpoints and exact resume.

All randomness of a step comes from (seed, phase, epoch, step), so a run that was killed in mid-epoch repeats that
epoch from the last checkpoint and ends with the same weights on the same machine. Several processes share each batch
(`Recipe.batch` counts the photographs of all of them) and add nothing of their own to it: see
`train/compute/processes.py`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medtex_edge.errors import DataError
from medtex_edge.files import atomic_path
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.compute.processes import (
    group,
    mean_over_processes,
    on_main,
    seeded_step,
    slice_size,
    start_alike,
    synchronise_batch_norm,
)
from medtex_edge.train.data.batches import Batch as Batch
from medtex_edge.train.data.batches import batches as batches
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.reporter import Reporter

Row = dict[str, float | str]
State = dict[str, Any]  # of a checkpoint


@dataclass(frozen=True)
class Recipe:
    """What the loop needs of a configuration."""

    batch: int
    weight_decay: float
    warmup: float
    clip: float
    ema: float
    patience: int
    seed: int


@dataclass
class Phase:
    """A stretch of training with its own rates and losses.

    groups(module) -> (parameters, rate) pairs; step(module, batch) -> the weighted loss terms by name, to be added up;
    validate(module) -> measures, lower 'val_loss' is better. prepare(module) changes the module before the first step.
    """

    name: str
    epochs: int
    groups: Callable[[nn.Module], list[tuple[list[nn.Parameter], float]]]
    step: Callable[[nn.Module, Batch], dict[str, Tensor]]
    validate: Callable[[nn.Module], dict[str, float]]
    prepare: Callable[[nn.Module], None] | None = None


class Fit:
    """Trains `module` through phases; `self.module` holds the best averaged weights of the last phase that ran."""

    def __init__(
        self,
        module: nn.Module,
        photos: Photos,
        recipe: Recipe,
        compute: Compute,
        reporter: Reporter,
        checkpoint: Path,
        key: str,
    ) -> None:
        self._group = group()
        slice_size(recipe.batch)
        if self._group.count > 1:
            module = synchronise_batch_norm(module, compute.device)
        self.module, self._photos, self._recipe, self._compute = module, photos, recipe, compute
        self._reporter, self._checkpoint, self._key = reporter, checkpoint, key
        self.history: list[Row] = []
        self._state = read_checkpoint(checkpoint, key)
        if self._state is not None:
            self.history = list(self._state["history"])
            reporter.resumed(self.history)

    def run(self, phases: list[Phase]) -> None:
        """Run the phases in order, from the checkpoint where there is one."""
        for number, phase in enumerate(phases):
            if phase.epochs == 0 or (self._state is not None and self._state["phase"] > number):
                continue
            self._run_phase(number, phase)

    def _run_phase(self, number: int, phase: Phase) -> None:
        recipe, module = self._recipe, self.module
        if phase.prepare is not None and self._state is None:
            phase.prepare(module)
        groups = phase.groups(module)
        start_alike(module)
        ema = copy.deepcopy(module).eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(
            [{"params": p, "lr": lr, "peak": lr} for p, lr in groups], weight_decay=recipe.weight_decay
        )
        scaler = torch.amp.GradScaler(self._compute.device.type, enabled=self._compute.autocast_dtype == torch.float16)
        best, best_epoch, best_state, first = math.inf, -1, copy.deepcopy(ema.state_dict()), 0
        if self._state is not None:
            saved = self._state
            module.load_state_dict(saved["module"])
            ema.load_state_dict(saved["ema"])
            optimizer.load_state_dict(saved["optimizer"])
            scaler.load_state_dict(saved["scaler"])
            best, best_epoch, best_state, first = (
                saved["best"],
                saved["best_epoch"],
                saved["best_state"],
                saved["epoch"] + 1,
            )
            self._state = None
        patience = recipe.patience or max(phase.epochs // 2, 3)
        steps = max(math.ceil(len(self._photos.images) / recipe.batch), 1)
        for epoch in range(first, phase.epochs):
            if epoch - best_epoch > patience and best_epoch >= 0:
                break
            started = time.monotonic()
            terms = self._epoch(number, phase, epoch, steps, optimizer, scaler, ema)
            measures = self._measures(phase, ema)
            self.history.append(
                {
                    "phase": phase.name,
                    "epoch": epoch,
                    "step": (epoch + 1) * steps,
                    "seconds": time.monotonic() - started,
                    **terms,
                    **measures,
                }
            )
            if measures["val_loss"] < best:
                best, best_epoch, best_state = measures["val_loss"], epoch, copy.deepcopy(ema.state_dict())
            self._reporter.epoch(self.history[-1])
            self._save(number, epoch, module, ema, optimizer, scaler, best, best_epoch, best_state)
        module.load_state_dict(best_state)
        # The next phase starts from this one's best weights, and so does a run resumed between the two.
        self._reporter.phase_done(phase.name, best_epoch)

    def _epoch(
        self,
        number: int,
        phase: Phase,
        epoch: int,
        steps: int,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        ema: nn.Module,
    ) -> dict[str, float]:
        recipe, module, compute = self._recipe, self.module, self._compute
        seed = (recipe.seed, number, epoch)
        module.train()
        total: dict[str, Tensor] = {}
        previous: dict[str, Tensor] = {}
        order = np.random.default_rng(seed)
        done = 0
        for batch in batches(self._photos, recipe.batch, compute, order=order, among=self._group):
            step = epoch * steps + done
            for part in optimizer.param_groups:
                part["lr"] = part["peak"] * cosine(step, phase.epochs * steps, recipe.warmup)
            with seeded_step(self._group.index, self._group.count, *seed, done):
                with compute.autocast():
                    terms = phase.step(module, replace(batch, progress=step / (phase.epochs * steps)))
                loss = torch.stack(list(terms.values())).sum()
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            terms = {name: term.detach().clone() for name, term in terms.items()}
            # Not DistributedDataParallel: it hooks one module's forward, and a step here calls parts of the module,
            # other parts in each phase. Slices are of one size, so the mean of their gradients is the batch's.
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            mean_over_processes([*gradients, *terms.values()])
            scaler.unscale_(optimizer)
            for part in optimizer.param_groups:
                # Each by itself: a steep moment of the student must not hold up the explainer.
                torch.nn.utils.clip_grad_norm_(part["params"], recipe.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            average(ema, module, min(recipe.ema, (1 + step) / (10 + step)))
            # One step late: reading a number waits for the GPU, which has the next step to do by now.
            _check(previous, phase.name, epoch)
            previous = terms
            for name, term in terms.items():
                total[name] = total.get(name, torch.zeros((), device=term.device)) + term
            done += 1
            self._reporter.step(phase.name, epoch, phase.epochs, done, steps, total)
        _check(previous, phase.name, epoch)
        return {name: float(value) / done for name, value in total.items()}

    def _measures(self, phase: Phase, ema: nn.Module) -> dict[str, float]:
        """Every process validates, since a phase may learn from it; the main one's figures decide for all."""
        measures = phase.validate(ema)
        return on_main(lambda: measures)

    def _save(
        self,
        phase: int,
        epoch: int,
        module: nn.Module,
        ema: nn.Module,
        optimizer: Any,
        scaler: Any,
        best: float,
        best_epoch: int,
        best_state: Any,
    ) -> None:
        state = {
            "key": self._key,
            "phase": phase,
            "epoch": epoch,
            "module": module.state_dict(),
            "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "best": best,
            "best_epoch": best_epoch,
            "best_state": best_state,
            "history": self.history,
        }
        write_checkpoint(self._checkpoint, state)


def write_checkpoint(path: Path, state: State) -> None:
    """Replace the checkpoint, whole or not at all. The main process writes; the others hold the same weights."""
    if group().main:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)


def read_checkpoint(path: Path, key: str) -> State | None:
    """The state that `path` holds, on the CPU; None where there is none. Only the main process needs the file.

    Raises `DataError` where it is damaged, or of a training with another `key` (settings or photographs).
    """
    return on_main(lambda: _read_checkpoint(path, key))


def _read_checkpoint(path: Path, key: str) -> State | None:
    if not path.is_file():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise DataError(f"cannot read the checkpoint {path}: {error}", hint="delete it to start anew") from error
    if state.get("key") != key:
        raise DataError(
            f"{path.parent} holds an unfinished run with other settings or photographs",
            hint="choose another --out, repeat that run's own command to resume it, or delete the folder",
        )
    return state


def _check(terms: dict[str, Tensor], phase: str, epoch: int) -> None:
    """Raise `DataError` that names the terms which are no finite number."""
    if not terms or bool(torch.isfinite(torch.stack(list(terms.values()))).all()):
        return
    bad = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
    loss = float(sum(float(term) for term in terms.values()))
    raise DataError(
        f"the loss became {loss} in {phase}, epoch {epoch}, by {', '.join(bad)}",
        hint="try --precision fp32 or a smaller learning rate",
    )


def cosine(step: int, steps: int, warmup: float) -> float:
    """The rate's factor in 0..1 at a step: a linear rise over the fraction `warmup`, then half a cosine to 0."""
    rise = max(int(steps * warmup), 1)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1)))


@torch.no_grad()
def average(ema: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards the module's by 1 - decay."""
    for mean, now in zip(ema.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now.to(mean.dtype), 1 - decay)
        else:
            mean.copy_(now)
