"""`medtex-edge train-teacher` and `medtex-edge train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medtex_edge.errors import SettingsError

if TYPE_CHECKING:
    from medtex_edge.train.progress import Reporter
    from medtex_edge.train.setup import Source

Command = TypeVar("Command", bound=Callable[..., Any])
SYNTHETIC = Path("runs") / "synthetic"
# For the synthetic cohort a small picture is enough, and someone who tries the command is waiting.
QUICK_TEACHER = {"size": 128, "epochs": 8, "model": "tf_efficientnet_lite0"}
QUICK = {"size": 128, "epochs": 6, "explainer_epochs": 5, "joint_epochs": 7}


def _shared(command: Command) -> Command:
    """The options that say where photographs come from, and how to repeat a run."""
    options = [
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            help="Folder per class, CSV with an image folder, or MedMNIST .npz.",
        ),
        click.option("--image-column", default="image", show_default=True, help="CSV column with the file names."),
        click.option(
            "--label-column",
            default="label",
            show_default=True,
            help="CSV column with grades or class names.",
        ),
        click.option("--split-column", default="split", show_default=True, help="CSV column with train, val or test."),
        click.option("--patient-column", default="patient", show_default=True, help="CSV column with the patient."),
        click.option("--mask-column", default="", help="CSV column with lesion masks: scores saliency."),
        click.option(
            "--image-folder", default="", help="Folder of the CSV's images, if it cannot be found by looking."
        ),
        click.option(
            "--val-fraction",
            type=click.FloatRange(0.01, 0.9),
            default=0.2,
            show_default=True,
            help="Where no split is given.",
        ),
        click.option(
            "--accept",
            multiple=True,
            metavar="PROBLEM",
            help="Live with a named problem of the data; errors say which. Repeatable.",
        ),
        click.option(
            "--referable",
            default="",
            help="Referable classes: names, indices, or '2+' for grades from 2. Default: 2+ for grades.",
        ),
        click.option("--size", type=int, help="Side of the input in pixels, a multiple of 32.  [default: 224]"),
        click.option("--batch", type=int, help="Photographs per step.  [default: 16]"),
        click.option("--lr", type=float, help="Peak learning rate.  [default: 0.0004]"),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
            help="Autocast.  [default: auto]",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="One seed for everything."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]"),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print the metrics as JSON at the end; progress goes to stderr.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("train-teacher")
@click.option("--model", help="timm name of the pretrained classifier.  [default: tf_efficientnet_lite2]")
@click.option("--model-weights", help="auto, none, or a .safetensors file.  [default: auto]")
@click.option("--epochs", type=int, help="Passes over the photographs.  [default: 14]")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/teacher-NNN]")
@_shared
def train_teacher(
    model: str | None,
    model_weights: str | None,
    epochs: int | None,
    out: Path | None,
    as_json: bool,
    **shared: Any,
) -> None:
    """Fine-tune a pretrained classifier on your photographs: the teacher.

    \b
    Example:
      medtex-edge train-teacher --data photos/ --label-column grade --out runs/teacher
    """
    from medtex_edge.train.config import TeachConfig
    from medtex_edge.train.setup import next_folder

    given = _given(model=model, model_weights=model_weights, epochs=epochs, **_training(shared))
    with _reporter(as_json, out or next_folder("teacher"), shared) as (reporter, folder):
        source, synthetic = _source(shared, reporter)
        config = _config(TeachConfig, (QUICK_TEACHER if synthetic else {}) | given)
        metrics = _teach(config, source, folder, reporter)
    _finish(
        metrics,
        as_json,
        [("teacher", folder), ("next", f"medtex-edge train --teacher {folder}{_data_words(shared)}")],
    )


@click.command("train")
@click.option(
    "--teacher",
    help="timm:NAME, timm:NAME@FILE.safetensors, a train-teacher run, .pt2 or .onnx.  [default: one is trained first]",
)
@click.option("--teacher-size", type=int, help="Input side of a .pt2 or .onnx teacher, where it does not say.")
@click.option(
    "--teacher-mean",
    type=float,
    nargs=3,
    help="Its normalisation, for pictures in 0..1.  [default: ImageNet's]",
)
@click.option(
    "--teacher-std",
    type=float,
    nargs=3,
    help="Its normalisation, for pictures in 0..1.  [default: ImageNet's]",
)
@click.option(
    "--teacher-output",
    type=click.Choice(["auto", "logits", "probabilities"]),
    default="auto",
    show_default=True,
)
@click.option("--student", help="timm name.  [default: tf_efficientnet_lite0]")
@click.option("--student-weights", help="auto, none, or a .safetensors file.  [default: auto]")
@click.option(
    "--method",
    type=click.Choice(["medtex", "masked", "hinton", "vid", "paper", "supervised"]),
    help="The others are its rivals; masked: the student that judges masks.  [default: medtex]",
)
@click.option("--epochs", type=int, help="Of the student under random masks.  [default: 12]")
@click.option("--explainer-epochs", type=int, help="Of the explainer against that student.  [default: 6]")
@click.option("--joint-epochs", type=int, help="Of student and explainer together.  [default: 12]")
@click.option("--budget", type=float, help="Fraction of the picture that may be open.  [default: 0.2]")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="TERM=W",
    help="Weight of a term: out, mid, label, area, budget, tv. Repeatable.",
)
@click.option("--sensitivity", "target_sensitivity", type=float, help="Wanted of the operating point.  [default: 0.9]")
@click.option(
    "--masks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with lesion masks to score saliency against.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run folder; an unfinished run there is resumed.  [default: runs/student-NNN]",
)
@_shared
def train(
    teacher: str | None,
    teacher_size: int | None,
    teacher_mean: tuple[float, ...] | None,
    teacher_std: tuple[float, ...] | None,
    teacher_output: str,
    student: str | None,
    student_weights: str | None,
    method: str | None,
    epochs: int | None,
    explainer_epochs: int | None,
    joint_epochs: int | None,
    budget: float | None,
    weights: tuple[str, ...],
    target_sensitivity: float | None,
    masks: Path | None,
    out: Path | None,
    as_json: bool,
    **shared: Any,
) -> None:
    """Distil a compact student and an explainer from a teacher.

    \b
    Example:
      medtex-edge train --data photos/ --label-column grade --teacher runs/teacher --out runs/mine
    """
    from medtex_edge.train.config import EXPLAINED, TrainConfig
    from medtex_edge.train.setup import next_folder
    from medtex_edge.train.student_run import train as distil
    from medtex_edge.train.teacher import FileOptions

    given = _given(
        student=student,
        student_weights=student_weights,
        method=method,
        epochs=epochs,
        explainer_epochs=explainer_epochs,
        joint_epochs=joint_epochs,
        budget=budget,
        target_sensitivity=target_sensitivity,
        weights=_weights(weights),
        **_training(shared),
    )
    options = FileOptions(teacher_size, _triple(teacher_mean), _triple(teacher_std), teacher_output)
    command = "medtex-edge " + shlex.join(sys.argv[1:])
    with _reporter(as_json, out or next_folder("student"), shared) as (reporter, folder):
        source, synthetic = _source(shared, reporter)
        config = _config(TrainConfig, (QUICK if synthetic else {}) | given)
        masks = source.path if synthetic and masks is None else masks
        spec = teacher or str(_own_teacher(config.seed, config.precision, source, synthetic, folder, reporter))
        metrics = distil(config, source, spec, folder, reporter, teacher_options=options, masks=masks, command=command)
    lines = [("run", folder), ("report", folder / "report.html")]
    if config.method in EXPLAINED:
        lines.append(("next", f"medtex-edge export {folder} --fp16"))
    _finish(metrics, as_json, lines)


def _own_teacher(seed: int, precision: str, source: Source, synthetic: bool, folder: Path, reporter: Reporter) -> Path:
    """Without --teacher one is trained first, beside the run; it is used again where it is finished."""
    from medtex_edge.train.config import TeachConfig

    out = folder.with_name(f"{folder.name}-teacher")
    if not (out / "model.json").exists():
        reporter.say(f"no --teacher was given: training one into {out}")
        quick = QUICK_TEACHER if synthetic else {}
        _teach(_config(TeachConfig, {**quick, "seed": seed, "precision": precision}), source, out, reporter)
    return out


def _teach(config: Any, source: Source, out: Path, reporter: Reporter) -> dict[str, Any]:
    from medtex_edge.train.teacher_run import train_teacher as teach

    return teach(config, source, out, reporter)


def _source(shared: dict[str, Any], reporter: Reporter) -> tuple[Source, bool]:
    from medtex_edge.train.data import DataOptions
    from medtex_edge.train.setup import Source

    data: Path | None = shared["data"]
    synthetic = data is None
    if data is None:
        from medtex_edge.train.synthetic import write_cohort

        reporter.say(
            "[bold yellow]NO --data WAS GIVEN: training on the built-in SYNTHETIC cohort.[/]\n"
            "[yellow]It shows how the commands work. Nothing measured on it says anything about patients.[/]"
        )
        data = SYNTHETIC
        if not (data / "labels.csv").exists():
            write_cohort(data)
    columns = {
        name: shared[name]
        for name in ("image_column", "label_column", "split_column", "patient_column", "mask_column", "image_folder")
    }
    if synthetic:
        columns["label_column"] = "grade"
    options = DataOptions(**columns, val_fraction=shared["val_fraction"], accept=frozenset(shared["accept"]))
    return Source(data, options, shared["referable"]), synthetic


def _training(shared: dict[str, Any]) -> dict[str, Any]:
    return {name: shared[name] for name in ("size", "batch", "lr", "precision", "seed")}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _config(cls: Any, values: dict[str, Any]) -> Any:
    from medtex_edge.train.config import config_from

    return config_from(cls, values)


def _weights(texts: tuple[str, ...]) -> dict[str, float] | None:
    if not texts:
        return None
    result = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            result[name.strip()] = float(value)
        except ValueError:
            raise SettingsError(
                f"--weight: expected TERM=NUMBER, got {text!r}", hint="for example --weight mid=0.5"
            ) from None
    return result


def _triple(values: tuple[float, ...] | None) -> tuple[float, float, float] | None:
    return (values[0], values[1], values[2]) if values else None


def _reporter(as_json: bool, folder: Path, shared: dict[str, Any]) -> Any:
    """A context that gives (reporter, folder); an interruption says how to go on."""
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        import torch
        from rich.console import Console

        from medtex_edge.train.progress import Reporter

        if shared["threads"]:
            torch.set_num_threads(shared["threads"])
        with Reporter(Console(stderr=as_json), folder) as reporter:
            try:
                yield reporter, folder
            except KeyboardInterrupt:
                reporter.say(f"interrupted; the same command with --out {folder} goes on after the last finished epoch")
                raise

    return opened()


def _data_words(shared: dict[str, Any]) -> str:
    if shared["data"] is None:
        return ""
    return f" --data {shared['data']}" + (
        f" --label-column {shared['label_column']}" if shared["label_column"] != "label" else ""
    )


def _finish(metrics: dict[str, Any], as_json: bool, lines: list[tuple[str, Any]]) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

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
