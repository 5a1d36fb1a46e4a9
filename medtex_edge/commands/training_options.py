"""The options that several training commands share, and the settings that follow from them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medtex_edge.commands.invocation import quiet
from medtex_edge.errors import SettingsError

if TYPE_CHECKING:
    from medtex_edge.train.loop.reporter import Reporter
    from medtex_edge.train.models.teacher import FileOptions
    from medtex_edge.train.prepare import DataSource

Command = TypeVar("Command", bound=Callable[..., Any])
SYNTHETIC = Path("runs") / "synthetic"
# The synthetic dataset needs no more pixels, and whoever tests the command is waiting.
QUICK_TEACHER = {"size": 128, "epochs": 8, "model": "tf_efficientnet_lite0"}
QUICK = {"size": 128, "epochs": 10, "joint_epochs": 5}
# 84 million multiply-adds: 11 % of the default teacher's 751, and 15 % of it at 224 pixels.
SLIM = {"student": "tf_efficientnet_lite0:stages=4", "size": 160}

SHARED = (
    "data", "image_column", "label_column", "split_column", "patient_column", "mask_column", "image_folder",
    "val_fraction", "accept", "referable", "size", "batch", "lr", "precision", "compiled", "seed", "threads",
)  # fmt: skip


def shared_options(command: Command) -> Command:
    """The options of the data, the hardware and the seed."""
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
        click.option("--mask-column", default="", help="CSV column with lesion masks, the ground truth of saliency."),
        click.option("--image-folder", default="", help="Folder of the CSV's images, where it is not found."),
        click.option(
            "--val-fraction",
            type=click.FloatRange(0.01, 0.9),
            default=0.2,
            show_default=True,
            help="Fraction of the photographs for validation, where no split is given.",
        ),
        click.option(
            "--accept",
            multiple=True,
            metavar="PROBLEM",
            help="Accept a problem of the data, by the name that the error gives. Repeatable.",
        ),
        click.option(
            "--referable",
            default="",
            help="The classes that mean disease: names separated by commas, or '2+' for grade 2 and above. "
            "Default: 2+ for grades that count from 0; classes that are names have none.",
        ),
        click.option("--size", type=int, help="Side of the input in pixels, a multiple of 32.  [default: 224]"),
        click.option("--batch", type=int, help="Photographs per step, over all processes.  [default: 16]"),
        click.option("--lr", type=float, help="Peak learning rate.  [default: 0.0004]"),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
            help="Autocast.  [default: auto]",
        ),
        click.option("--compile/--no-compile", "compiled", default=None, help="torch.compile.  [default: no]"),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]"),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print the metrics as JSON at the end; progress goes to stderr.",
        ),
    ]
    return _add(command, options)


def log_option(command: Command) -> Command:
    """The experiment trackers that receive the figures of every epoch."""
    return click.option(
        "--log",
        multiple=True,
        type=click.Choice(["tensorboard", "mlflow", "wandb"]),
        help="Send every epoch's figures to a tracker as well. Repeatable.  [default: tensorboard where installed]",
    )(command)


def teacher_options(command: Command) -> Command:
    """The properties of a teacher that its file does not record."""
    options = [
        click.option(
            "--teacher-size", type=int, help="Input side of a .pt2 or .onnx teacher, where the file has none."
        ),
        click.option(
            "--teacher-mean",
            type=float,
            nargs=3,
            help="Its normalisation, for pixels in 0..1.  [default: ImageNet's]",
        ),
        click.option(
            "--teacher-std",
            type=float,
            nargs=3,
            help="Its normalisation, for pixels in 0..1.  [default: ImageNet's]",
        ),
        click.option(
            "--teacher-output",
            type=click.Choice(["auto", "logits", "probabilities"]),
            default="auto",
            show_default=True,
        ),
    ]
    return _add(command, options)


def student_options(command: Command) -> Command:
    """The student, and the length of its training."""
    options = [
        click.option(
            "--student", help="timm name, or NAME:stages=K for its first stages.  [default: tf_efficientnet_lite0]"
        ),
        click.option("--student-weights", help="auto, none, or a .safetensors file.  [default: auto]"),
        click.option("--epochs", type=int, help="Epochs of student and explainer separately.  [default: 16]"),
        click.option("--joint-epochs", type=int, help="Epochs of student and explainer jointly.  [default: 8]"),
        click.option(
            "--slim",
            is_flag=True,
            help="A student at most 15 % of the default teacher: Lite0 cut after stage 4, at 160 pixels.",
        ),
    ]
    return _add(command, options)


def label_options(command: Command) -> Command:
    """The use of the ground-truth labels."""
    options = [
        click.option(
            "--label-loss",
            type=click.Choice(["ce", "focal", "ordinal"]),
            help="Loss of the labels; ordinal: errors by several grades cost more.  [default: ce]",
        ),
        click.option(
            "--class-weights",
            metavar="WEIGHTS",
            help="balanced, none, or a number per class; not none: rare classes gain probability.  [default: none]",
        ),
    ]
    return _add(command, options)


def _add(command: Command, options: list[Callable[[Any], Any]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def file_options(values: dict[str, Any]) -> FileOptions:
    """The four values of `teacher_options`, taken out of `values`."""
    from medtex_edge.train.models.teacher import FileOptions

    size, mean, std, output = (values.pop(f"teacher_{name}") for name in ("size", "mean", "std", "output"))
    return FileOptions(size, tuple(mean) if mean else None, tuple(std) if std else None, output)


def preset(synthetic: bool, slim: bool) -> dict[str, Any]:
    """The defaults for the built-in dataset, and for a slim student; given options override them."""
    return (QUICK if synthetic else {}) | (SLIM if slim else {})


def own_teacher(
    seed: int, precision: str, source: DataSource, synthetic: bool, folder: Path, reporter: Reporter
) -> Path:
    """Train a teacher next to the run where no --teacher is given; a finished one is used again."""
    from medtex_edge.train.config import TeachConfig

    out = folder.with_name(f"{folder.name}-teacher")
    if not (out / "model.json").exists():
        reporter.message(f"no --teacher was given: training one into {out}")
        quick = QUICK_TEACHER if synthetic else {}
        teach(config(TeachConfig, {**quick, "seed": seed, "precision": precision}), source, out, reporter)
    return out


def teach(settings: Any, source: DataSource, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Train a teacher. The heavy modules are imported here."""
    from medtex_edge.train.teacher_run import train_teacher

    return train_teacher(settings, source, out, reporter)


def source(shared: dict[str, Any], reporter: Reporter) -> tuple[DataSource, bool]:
    """The source of the photographs, and whether it is the built-in dataset, which stands in for --data."""
    from medtex_edge.train.data.dataset import DataOptions
    from medtex_edge.train.prepare import DataSource

    data: Path | None = shared["data"]
    synthetic = data is None
    if data is None:
        from medtex_edge.train.compute.processes import on_main
        from medtex_edge.train.synthetic.dataset import write_dataset

        reporter.display.console.print(
            "[bold yellow]NO --data WAS GIVEN: training on the built-in SYNTHETIC dataset.[/]\n"
            "[yellow]It shows how the commands work. No result on it holds for patients.[/]",
            highlight=False,
        )
        data = SYNTHETIC
        on_main(lambda: None if (SYNTHETIC / "labels.csv").exists() else write_dataset(SYNTHETIC))
    columns = {
        name: shared[name]
        for name in ("image_column", "label_column", "split_column", "patient_column", "mask_column", "image_folder")
    }
    if synthetic:
        columns["label_column"] = "grade"
    options = DataOptions(**columns, val_fraction=shared["val_fraction"], accept=frozenset(shared["accept"]))
    return DataSource(data, options, shared["referable"]), synthetic


def training(shared: dict[str, Any]) -> dict[str, Any]:
    """The shared options that are part of a configuration."""
    return {name: shared[name] for name in ("size", "batch", "lr", "precision", "compiled", "seed")}


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None; all others keep their defaults."""
    return {name: value for name, value in values.items() if value is not None}


def config(cls: Any, values: dict[str, Any]) -> Any:
    """A checked configuration. Raises `SettingsError`."""
    from medtex_edge.train.config import config_from

    return config_from(cls, values)


def weights(texts: tuple[str, ...]) -> dict[str, float] | None:
    """TERM=W -> {TERM: W}. Raises `SettingsError`."""
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


@contextmanager
def reporter(
    as_json: bool, folder: Path, shared: dict[str, Any], log: tuple[str, ...] = ()
) -> Iterator[tuple[Reporter, Path]]:
    """Yields (reporter, folder). An interruption reports the command that resumes the training."""
    import torch
    from rich.console import Console

    from medtex_edge.train.compute.processes import group, rank0_errors, shutdown
    from medtex_edge.train.loop.reporter import Reporter

    console = Console(stderr=as_json, quiet=not group().main or quiet())
    if shared["threads"]:
        torch.set_num_threads(shared["threads"])
    with rank0_errors(), Reporter(console, folder, log) as opened:
        try:
            yield opened, folder
        except KeyboardInterrupt:
            opened.message(f"interrupted; the same command with --out {folder} goes on after the last finished epoch")
            raise
    shutdown()


# The options that decide which photographs are read, how they are split and what they mean, with their defaults.
_DATA_DEFAULTS: dict[str, Any] = {
    "image_column": "image", "label_column": "label", "split_column": "split", "patient_column": "patient",
    "mask_column": "", "image_folder": "", "val_fraction": 0.2, "accept": (), "referable": "", "seed": 0,
}  # fmt: skip


def data_arguments(shared: dict[str, Any]) -> str:
    """The arguments, quoted for a shell, by which a next command reads the same photographs with the same meaning."""
    if shared["data"] is None:
        return ""
    words = ["--data", str(shared["data"])]
    for name, default in _DATA_DEFAULTS.items():
        if (value := shared[name]) != default:
            for each in value if isinstance(value, tuple | list) else [value]:
                words += [f"--{name.replace('_', '-')}", str(each)]
    return " " + shlex.join(words)
