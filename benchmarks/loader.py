"""Does reading keep up with training? Photographs per second of the loader, of each phase's step, and of both at once.

    python -m benchmarks.loader                           # what the machine has: a GPU, or the CPU
    python -m benchmarks.loader --batch 128 --compile     # larger batches, compiled networks

Photographs are noise in a memory-mapped file as large as a dataset's; models have random weights, since time does not
depend on them. `fed` is the speed of reading and training together over that of training alone: 1 is a loader that
costs nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from medtex_edge.train.compute import device
from medtex_edge.train.compute.depthwise import speed_up_depthwise
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.config import TrainConfig
from medtex_edge.train.data.augment import Augment
from medtex_edge.train.data.batches import Batch, batches
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.distillation import Distillation, TrainingSteps
from medtex_edge.train.loop.fit import Phase
from medtex_edge.train.losses.labels import label_loss
from medtex_edge.train.losses.objective import LLocal
from medtex_edge.train.models.compiling import compile_networks
from medtex_edge.train.models.explainer import Explainer
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.student import Classifier
from medtex_edge.train.models.teacher import TorchTeacher

CLASSES = 5
console = Console(stderr=True)


@dataclass(frozen=True)
class Speed:
    """Photographs per second: loader alone, steps of a phase alone, both together."""

    phase: str
    loader: float
    step: float
    together: float

    @property
    def fed(self) -> float:
        return self.together / self.step


@contextmanager
def noise(count: int, size: int, teacher_size: int) -> Iterator[Photos]:
    """Photographs as the cache keeps them, at the sizes of student and teacher: uint8 files, mapped into memory."""
    rng = np.random.default_rng(0)

    def mapped(path: Path, side: int) -> npt.NDArray[np.uint8]:
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, side, side, 3))
        for start in range(0, count, 64):
            part = images[start : start + 64]
            part[:] = rng.integers(0, 256, part.shape, np.uint8)
        images.flush()
        found: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return found

    with tempfile.TemporaryDirectory() as folder:
        labels = rng.integers(0, CLASSES, count)
        larger = mapped(Path(folder) / "teacher.npy", teacher_size) if teacher_size != size else None
        yield Photos(mapped(Path(folder) / "student.npy", size), labels, tuple(map(str, range(count))), larger)


def prepared(
    config: TrainConfig, teacher_model: str, teacher_size: int, photos: Photos, compute: Compute
) -> tuple[nn.Module, list[Phase]]:
    """The training's own modules and steps."""
    model = MedTex(
        Classifier(config.student, CLASSES, weights="none"),
        Explainer(config.student, stages=config.stages, width=config.width, weights="none"),
        size=config.size,
        baseline_grid=config.baseline_grid,
    )
    speed_up_depthwise(model, compute.autocast_dtype)
    teacher = TorchTeacher("teacher", Classifier(teacher_model, CLASSES, weights="none"), teacher_size, compute)
    module = Distillation(model, teacher.feature_channels, LLocal(CLASSES, ordered=True)).to(compute.device)
    if config.compiled:
        compile_networks(module, teacher, compute.device, console.print)
    few = photos.first(8)
    label = label_loss("ce", "none", photos.labels, CLASSES, ordered=True).to(compute.device)
    return module, TrainingSteps(config, teacher, Augment().to(compute.device), few, compute, label).phases()


def per_second(work: Callable[[Iterator[Batch]], int], source: Iterator[Batch], compute: Compute) -> float:
    """Photographs per second of `work` over `source`; the device has finished when the clock stops."""
    started = time.perf_counter()
    count = work(source)
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


def measured(phase: Phase, module: nn.Module, photos: Photos, batch: int, steps: int, compute: Compute) -> Speed:
    """One phase on this machine, after a warm-up."""
    groups = [{"params": parameters, "lr": rate} for parameters, rate in phase.groups(module)]
    optimizer = torch.optim.AdamW(groups)
    order = np.random.default_rng(0)

    def read() -> Iterator[Batch]:
        left = steps
        while left > 0:
            for one in batches(photos, batch, compute, order=order):
                if left > 0 and len(one.labels) == batch:
                    left -= 1
                    yield one

    def use(source: Iterator[Batch]) -> int:
        return sum(len(one.labels) for one in source)

    def train(source: Iterator[Batch]) -> int:
        module.train()
        count = 0
        for one in source:
            with compute.autocast():
                loss = torch.stack(list(phase.step(module, one).values())).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            count += len(one.labels)
        return count

    kept = next(iter(batches(photos, batch, compute)))
    for _ in range(2):
        train(iter([kept]))
    return Speed(
        phase.name,
        per_second(use, read(), compute),
        per_second(train, iter([kept] * steps), compute),
        per_second(train, read(), compute),
    )


@click.command()
@click.option("--student", default="tf_efficientnet_lite0", show_default=True)
@click.option("--teacher", default="tf_efficientnet_lite2", show_default=True, help="timm name.")
@click.option("--size", default=224, show_default=True, help="Pixels.")
@click.option("--teacher-size", default=256, show_default=True, help="Pixels.")
@click.option("--batch", default=16, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Per figure.")
@click.option("--photographs", default=1024, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--compile", "compiled", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    student: str,
    teacher: str,
    size: int,
    teacher_size: int,
    batch: int,
    steps: int,
    photographs: int,
    precision: str,
    compiled: bool,
    as_json: bool,
) -> None:
    """Photographs per second of the loader, of the steps, and of both at once."""
    compute = device.choose(precision)
    config = replace(TrainConfig(student=student, size=size, student_weights="none"), compiled=compiled)
    with noise(photographs, size, teacher_size) as photos:
        module, phases = prepared(config, teacher, teacher_size, photos, compute)
        speeds = [
            measured(phase, module, photos, batch, steps, compute)
            for phase in track(phases, "measuring", console=console, transient=True)
        ]
    settings: dict[str, Any] = {"device": compute.description, "student": student, "teacher": teacher}
    settings |= {"size": size, "teacher_size": teacher_size, "batch": batch}
    if as_json:
        rows = [{**vars(speed), "fed": speed.fed} for speed in speeds]
        click.echo(json.dumps({**settings, "compiled": compiled, "photographs_per_second": rows}))
        return
    table = Table(title=", ".join(f"{name} {value}" for name, value in settings.items()), title_justify="left")
    for column in ("phase", "loader, photographs/s", "step", "both", "fed"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for speed in speeds:
        numbers = (f"{value:,.1f}" for value in (speed.loader, speed.step, speed.together))
        table.add_row(speed.phase, *numbers, f"{speed.fed:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
