"""`medtex-edge train-teacher` and `medtex-edge train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from medtex_edge.commands import training_options as options
from medtex_edge.commands.invocation import command_line, quiet
from medtex_edge.commands.training_options import (
    label_options,
    log_option,
    shared_options,
    student_options,
    teacher_options,
)
from medtex_edge.errors import SettingsError


@click.command("train-teacher")
@click.option("--model", help="timm name of the pretrained classifier.  [default: tf_efficientnet_lite2]")
@click.option("--model-weights", help="auto, none, or a .safetensors file.  [default: auto]")
@click.option("--epochs", type=int, help="Passes over the photographs.  [default: 14]")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/teacher-NNN]")
@label_options
@log_option
@shared_options
def train_teacher(
    model: str | None,
    model_weights: str | None,
    epochs: int | None,
    label_loss: str | None,
    class_weights: str | None,
    out: Path | None,
    log: tuple[str, ...],
    as_json: bool,
    **shared: Any,
) -> None:
    """Fine-tune a pretrained classifier on your photographs: the teacher.

    \b
    Example:
      medtex-edge train-teacher --data photos/ --label-column grade --out runs/teacher
    """
    from medtex_edge.train.config import TeachConfig
    from medtex_edge.train.prepare import next_folder

    given = options.given(
        model=model,
        model_weights=model_weights,
        epochs=epochs,
        label_loss=label_loss,
        class_weights=class_weights,
        **options.training(shared),
    )
    with options.reporter(as_json, out or next_folder("teacher"), shared, log) as (reporter, folder):
        source, synthetic = options.source(shared, reporter)
        config = options.config(TeachConfig, (options.QUICK_TEACHER if synthetic else {}) | given)
        metrics = options.teach(config, source, folder, reporter)
    _finish(
        metrics,
        as_json,
        [
            ("teacher", folder),
            ("next", f"medtex-edge train --teacher {shlex.quote(str(folder))}{options.data_arguments(shared)}"),
        ],
    )


@click.command("train")
@click.option(
    "--teacher",
    help="timm:NAME, timm:NAME@FILE.safetensors, a train-teacher run, .pt2 or .onnx.  [default: one is trained first]",
)
@teacher_options
@student_options
@click.option(
    "--method",
    type=click.Choice(["medtex", "masked", "hinton", "vid", "paper", "supervised"]),
    help="The others are baselines; masked: the student that evaluates maps.  [default: medtex]",
)
@label_options
@click.option("--budget", type=float, help="Visible fraction of the photograph without a penalty.  [default: 0.2]")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="TERM=W",
    help="Weight of a term: out, mid, label, local, budget, tv. Repeatable.",
)
@click.option(
    "--sensitivity", "target_sensitivity", type=float, help="Sensitivity of the operating point.  [default: 0.9]"
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with lesion masks, the ground truth of saliency.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run folder; an unfinished run there is resumed.  [default: runs/student-NNN]",
)
@log_option
@shared_options
def train(
    teacher: str | None,
    weights: tuple[str, ...],
    slim: bool,
    masks: Path | None,
    out: Path | None,
    log: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> tuple[Path, dict[str, Any]]:
    """Distil a compact student and an explainer from a teacher.

    \b
    Example:
      medtex-edge train --data photos/ --label-column grade --teacher runs/teacher --out runs/mine
    """
    from medtex_edge.train.config import EXPLAINED, TrainConfig
    from medtex_edge.train.prepare import next_folder
    from medtex_edge.train.student_run import train as distil

    file_options = options.file_options(values)
    shared = {name: values.pop(name) for name in options.SHARED}
    given = options.given(**values, weights=options.weights(weights), **options.training(shared))
    command = command_line()
    with options.reporter(as_json, out or next_folder("student"), shared, log) as (reporter, folder):
        source, synthetic = options.source(shared, reporter)
        config = options.config(TrainConfig, options.preset(synthetic, slim) | given)
        if not config.weights.label and (config.label_loss, config.class_weights) != ("ce", "none"):
            raise SettingsError(
                f"--label-loss and --class-weights change nothing: the method {config.method} uses no labels",
                hint="give their term a weight: --weight label=0.5",
            )
        masks = source.path if synthetic and masks is None else masks
        spec = teacher or str(options.own_teacher(config.seed, config.precision, source, synthetic, folder, reporter))
        metrics = distil(
            config, source, spec, folder, reporter, teacher_options=file_options, masks=masks, command=command
        )
    lines: list[tuple[str, Any]] = [("run", folder), ("report", folder / "report.html")]
    if config.method in EXPLAINED:
        lines.append(("next", f"medtex-edge export {shlex.quote(str(folder))} --fp16"))
    _finish(metrics, as_json, lines)
    return folder, metrics


def _finish(metrics: dict[str, Any], as_json: bool, lines: list[tuple[str, Any]]) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    from medtex_edge.train.compute.processes import group

    if not group().main or quiet():
        return
    if as_json:
        click.echo(json.dumps(metrics | {name: str(value) for name, value in lines}))
        return
    console = Console()
    table = Table(title=f"on the {metrics.get('selected_on', 'val')} photographs", title_justify="left")
    for column in ("", "AUC referable (95 %)", "accuracy", "kappa", "n"):
        table.add_column(column)
    for name in ("teacher", "student"):
        row = metrics.get(name)
        if row:
            interval = row["auc_referable_interval"]
            shown = (
                "-"
                if row["auc_referable"] is None
                else f"{row['auc_referable']:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"
            )
            table.add_row(
                name,
                shown,
                f"{row['accuracy']:.3f}",
                "-" if row["qwk"] is None else f"{row['qwk']:.3f}",
                str(row["n"]),
            )
    console.print(table)
    for name, value in lines:
        console.print(f"[bold]{name}[/]  {value}", highlight=False, soft_wrap=True)
