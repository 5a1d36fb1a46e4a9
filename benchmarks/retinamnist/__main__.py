"""RetinaMNIST, 28 x 28, end to end: teachers, three students, and published figures for the official test split.

    python -m benchmarks.retinamnist --data retinamnist.npz --out runs/retinamnist

Resumable: finished runs are kept, an unfinished one goes on. `--val-only` never opens the test split: for choosing.
Published: Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), table 3; AUC is the mean over the grades, one against
the rest, of the probabilities as they are; accuracy is that of the most probable grade.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import timm
import torch
from rich.console import Console
from torch import nn

from benchmarks.retinamnist.table import PUBLISHED, table
from medtex_edge.errors import MedtexError, SettingsError
from medtex_edge.evaluate.held_out import held_out_report
from medtex_edge.files import atomic_write, write_json
from medtex_edge.train.compute import device
from medtex_edge.train.config import TeachConfig, TrainConfig, config_from, read_config
from medtex_edge.train.data.dataset import DataOptions
from medtex_edge.train.loop.reporter import Reporter
from medtex_edge.train.models.cost import count
from medtex_edge.train.models.teacher import load_teacher
from medtex_edge.train.prepare import DataSource, provenance
from medtex_edge.train.run_folder import load_run
from medtex_edge.train.student_run import train
from medtex_edge.train.teacher_run import train_teacher

# Different in size and input rather than in seed alone; what was tried: docs/evidence/history.md.
TEACHERS = (
    TeachConfig(model="tf_efficientnet_lite0", size=96, epochs=14, batch=32),
    TeachConfig(model="tf_efficientnet_lite2", size=96, epochs=14, batch=32, seed=1),
    TeachConfig(model="tf_efficientnet_lite0", size=128, epochs=14, batch=32, seed=2),
)
# A coarser baseline than for large photographs: a grid of 14 would show half of 28 pixels' detail.
STUDENT = TrainConfig(
    student="tf_efficientnet_lite0",
    size=96,
    epochs=16,
    joint_epochs=8,
    batch=32,
    baseline_grid=7,
    budget=0.4,
)


@dataclass(frozen=True)
class Plan:
    """The settings, chosen on train and val alone; every seed's student has the same teachers."""

    teachers: tuple[TeachConfig, ...] = TEACHERS
    student: TrainConfig = STUDENT
    seeds: tuple[int, ...] = (0, 1, 2)


def measure(plan: Plan, data: Path, out: Path, console: Console, *, test: bool = True) -> dict[str, Any]:
    """Train what is not trained yet, then measure; returns what `retinamnist.json` holds."""
    source = DataSource(data, DataOptions())
    teachers = [_trained(c, source, out / f"teacher-{number}", console) for number, c in enumerate(plan.teachers)]
    spec = str(teachers[0]) if len(teachers) == 1 else "ensemble:" + ",".join(map(str, teachers))
    runs = [
        _trained(replace(plan.student, seed=seed), source, out / f"student-{seed}", console, spec)
        for seed in plan.seeds
    ]
    compute = device.choose("fp32")
    rows: list[dict[str, Any]] = []
    for seed, path in zip(plan.seeds, runs, strict=True):
        run = load_run(path)
        teacher = load_teacher(spec, run.classes, compute)
        splits = {"val": held_out_report(run, teacher, compute, split="val")}
        if test:
            splits["test"] = held_out_report(run, teacher, compute, split="test")
        rows.append({"seed": seed, "seconds": float(run.card["provenance"]["seconds"]), **splits})
    taught = [json.loads((path / "model.json").read_text("utf-8"))["provenance"]["seconds"] for path in teachers]
    result: dict[str, Any] = {
        "kind": "retinamnist",
        "chosen_on": "train and val; the test split was opened after the choice" if test else "val",
        "published": PUBLISHED,
        "students": rows,
        "mean": {split: _mean(rows, split) for split in ("val", "test") if split in rows[0]},
        "teacher_seconds": [float(seconds) for seconds in taught],
        "cost": _costs(load_run(runs[0]).load_model(), plan.student.size),
        "provenance": provenance(compute.description),
    }
    write_json(out / "retinamnist.json", result)
    with atomic_write(out / "retinamnist.md", "w") as file:
        file.write(table(result))
    return result


def _trained(
    config: TeachConfig | TrainConfig, source: DataSource, out: Path, console: Console, teacher: str = ""
) -> Path:
    if (out / "model.json").exists():
        tables = read_config(out / "config.toml")
        written: TeachConfig | TrainConfig
        if isinstance(config, TeachConfig):
            written = config_from(TeachConfig, tables["train-teacher"])
        else:
            written = config_from(TrainConfig, tables["train"])
        if written != config or Path(tables["data"]["path"]) != source.path.resolve():
            raise SettingsError(f"{out} was trained with other settings or data", hint="choose another --out")
        return out
    with Reporter(console, out) as reporter:
        if isinstance(config, TeachConfig):
            train_teacher(config, source, out, reporter)
        else:
            train(config, source, teacher, out, reporter, command="python -m benchmarks.retinamnist")
    return out


def _mean(rows: list[dict[str, Any]], split: str) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, of the student as deployed, of its whole-picture answer."""
    result: dict[str, Any] = {}
    for who in ("student", "student_whole_picture", "teacher"):
        for key in ("auc_macro", "accuracy"):
            values = [row[split][who][key] for row in rows]
            spread = statistics.stdev(values) if len(values) > 1 else None
            result.setdefault(who, {})[key] = {"mean": statistics.fmean(values), "sd": spread}
    return result


def _costs(model: Any, size: int) -> dict[str, Any]:
    x = torch.zeros(1, 3, size, size)
    # The ResNet-18 of MedMNIST's own 28 x 28 runs: a 3 x 3 stem without stride and no pooling after it.
    resnet = timm.create_model("resnet18", num_classes=5)
    resnet.conv1, resnet.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return {
        "student": asdict(count(model.student, x)),
        "explainer": asdict(count(model.explainer, x)),
        "resnet18_28px": asdict(count(resnet.eval(), torch.zeros(1, 3, 28, 28))),
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="retinamnist.npz")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/retinamnist"), show_default=True)
@click.option("--val-only", is_flag=True, help="Leave the test split shut.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]")
def main(data: Path, out: Path, val_only: bool, threads: int | None) -> None:
    if threads:
        torch.set_num_threads(threads)
    try:
        result = measure(Plan(), data, out, Console(), test=not val_only)
    except MedtexError as error:
        raise click.ClickException(f"{error.message}" + (f" ({error.hint})" if error.hint else "")) from error
    click.echo(table(result))


if __name__ == "__main__":
    main()
