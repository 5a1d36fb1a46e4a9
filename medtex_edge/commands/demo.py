"""`medtex-edge demo`: the whole pipeline once, by the commands that a user would type."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from medtex_edge.errors import MedtexError, StorageError

if TYPE_CHECKING:
    from rich.console import Console

# Sizes that train a classifier of the lesions in minutes on two cores. A real training has other defaults.
PHOTOGRAPHS, PHOTOGRAPH_SIDE = 200, 320
SIDE = 128
FRAMES, FRAME_SIDE, FRAMES_PER_SECOND = 150, 480, 25.0
SEED = 7
STDERR = 2  # the file descriptor


class DemoCommand(NamedTuple):
    """One command, its title, and the file that exists when it is finished."""

    title: str
    product: str
    arguments: tuple[str, ...]


_DATA = ("--data", "photographs", "--label-column", "grade")
PIPELINE = (
    DemoCommand(
        "A teacher: a pretrained classifier, fine-tuned",
        "runs/teacher/model.json",
        ("train-teacher", *_DATA, "--model", "tf_efficientnet_lite0", "--size", f"{SIDE}", "--epochs", "8",
         "--out", "runs/teacher"),
    ),
    DemoCommand(
        "A student and its explainer, taught by it",
        "runs/student/report.html",
        ("train", *_DATA, "--teacher", "runs/teacher", "--masks", "photographs", "--size", f"{SIDE}",
         "--epochs", "9", "--joint-epochs", "4", "--out", "runs/student"),
    ),
    DemoCommand(
        "Predictions and maps, measured with an independent evaluator, a baseline and the exact masks",
        "evaluation/report.html",
        ("evaluate", "runs/student", "--masks", "photographs", "--against", "gradcam", "--quick",
         "--evaluator-epochs", "4", "--out", "evaluation"),
    ),
    DemoCommand(
        "One file of student and explainer, compared with PyTorch",
        "demo.medtex",
        ("export", "runs/student", "--fp16", "--out", "demo.medtex"),
    ),
    DemoCommand("The checksums and golden vectors of the file, checked again", "", ("verify", "demo.medtex")),
    DemoCommand(
        "A video, read by the file as on a device",
        "overlay.mp4",
        ("run", "demo.medtex", "--source", "video.mp4", "--no-display", "--save", "overlay.mp4",
         "--readings", "readings.jsonl"),
    ),
)  # fmt: skip
# For `--json`: the name in the object, and the path of the product.
PRODUCT_KEYS = {
    "photographs": "photographs",
    "teacher": "runs/teacher",
    "student": "runs/student",
    "report": "evaluation/report.html",
    "bundle": "demo.medtex",
    "video": "overlay.mp4",
    "readings": "readings.jsonl",
}
FIGURES = {"metrics": "runs/student/metrics.json", "evaluation": "evaluation/evaluation.json"}
PRODUCTS = (
    ("photographs", "photographs/", f"{PHOTOGRAPHS} synthetic ones with grades and lesion masks"),
    ("teacher", "runs/teacher/", ""),
    ("student and explainer", "runs/student/", ""),
    ("report", "evaluation/report.html", "open it in a browser"),
    ("bundle", "demo.medtex", "everything that a device needs"),
    ("video with overlay", "overlay.mp4", "play it"),
    ("readings", "readings.jsonl", "one JSON object per frame"),
)
OWN_DATA = (
    "medtex-edge train-teacher --data photos/ --label-column grade --out runs/teacher",
    "medtex-edge train --data photos/ --label-column grade --teacher runs/teacher --out runs/mine",
    "medtex-edge export runs/mine --fp16 --out mine.medtex",
    "medtex-edge run mine.medtex --camera",
)


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo",
    show_default=True,
    help="Folder of all results; finished parts in it are kept.",
)
@click.option("--json", "as_json", is_flag=True,
              help="Print one JSON object at the end: paths of the results, seconds, metrics.json of the student and "
                   "evaluation.json; progress goes to stderr.")  # fmt: skip
def demo(out: Path, as_json: bool) -> None:
    """Run the whole pipeline once: teacher, student and explainer, report, bundle, video with overlay.

    \b
    Example:
      medtex-edge demo --out demo

    The photographs are synthetic. The demo takes some minutes on two cores; an interrupted one resumes where it
    stopped.

    \b
    Example:
      medtex-edge demo --out demo
    """
    from rich.console import Console

    from medtex_edge.files import storage

    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    started = time.monotonic()
    with storage(out, "make"):
        out.mkdir(parents=True, exist_ok=True)
    total = len(PIPELINE) + 1
    console.print(
        "[bold yellow]Synthetic photographs: they show how the commands work and prove nothing about eyes.[/]"
    )
    _title(console, 1, total, "Photographs of eyes that do not exist, and a video")
    _draw(console, out)
    for number, command in enumerate(PIPELINE, start=2):
        _title(console, number, total, command.title)
        _run(console, out, command)
    _check(out)
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_results(out, seconds), allow_nan=False))
    else:
        _show(console, out, seconds)


def _draw(console: Console, out: Path) -> None:
    from medtex_edge.progress import ProgressDisplay
    from medtex_edge.train.synthetic.dataset import write_dataset, write_video

    photographs, video = out / "photographs", out / "video.mp4"
    with ProgressDisplay(console) as display:
        if not (photographs / "labels.csv").exists():
            write_dataset(photographs, count=PHOTOGRAPHS, size=PHOTOGRAPH_SIDE, seed=SEED, progress=display)
        if not video.exists():
            write_video(video, SEED, FRAMES, FRAME_SIDE, FRAMES_PER_SECOND, grade=3, progress=display)


def _run(console: Console, out: Path, command: DemoCommand) -> None:
    """Run one command in `out` and in its own process, as a user would; the process frees its memory at the end."""
    if command.product and (out / command.product).exists():
        console.print(f"kept from an earlier demo: {out / command.product}", style="dim", markup=False)
        return
    line = shlex.join(("medtex-edge", *command.arguments))
    console.print(f"{out} $ {line}", style="cyan", markup=False)
    # With --json standard output belongs to the object at the end.
    output = STDERR if console.stderr else None
    code = subprocess.run([*_interpreter(), *command.arguments], cwd=out, stdout=output).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise _Failed(f"{line} ended with exit code {code}", code, hint=f"its message is above; it ran in {out}")


def _interpreter() -> Sequence[str]:
    # Not `-m`, which would put the folder of the demo before the installed packages.
    return (sys.executable, "-c", "import sys; from medtex_edge.cli import main; sys.exit(main())")


class _Failed(MedtexError):
    """The failure of a command, with its exit code."""

    def __init__(self, message: str, exit_code: int, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def _title(console: Console, number: int, total: int, title: str) -> None:
    console.print(f"\n[bold]{number}/{total}  {title}[/]")


def _check(out: Path) -> None:
    missing = [name for _, name, _ in PRODUCTS if not (out / name).exists()]
    if missing:
        raise StorageError(f"{out} lacks {', '.join(missing)}", hint=f"delete {out} and run the demo again")


def _results(out: Path, seconds: float) -> dict[str, Any]:
    """What `--json` prints: where the results are, and the figures that the commands showed."""
    from medtex_edge.files import storage

    figures = {}
    for name, path in FIGURES.items():
        with storage(out / path, "read"):
            figures[name] = json.loads((out / path).read_text("utf-8"))
    return {**{name: str(out / path) for name, path in PRODUCT_KEYS.items()}, "seconds": round(seconds, 1), **figures}


def _show(console: Console, out: Path, seconds: float) -> None:
    console.print(f"\n[bold green]Done[/] in {seconds / 60:.1f} minutes. Results:\n")
    for title, name, remark in PRODUCTS:
        console.print(f"  {title:<22} {out / name}" + (f"   ({remark})" if remark else ""), markup=False)
    console.print("\nWith your own photographs (a CSV and an image folder, or a folder per class):\n")
    for line in OWN_DATA:
        console.print(f"  {line}")
    console.print("\nThis is not a medical device.")
