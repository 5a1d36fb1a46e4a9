"""`medtex-edge demo`: the whole way once, with the commands that one would type."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from medtex_edge.errors import MedtexError, StorageError

if TYPE_CHECKING:
    from rich.console import Console

# Sizes that make a classifier which needs the lesions, in minutes, on two cores. Not the defaults of a real training.
PHOTOGRAPHS, PHOTOGRAPH_SIDE = 200, 320
SIDE = 128
FRAMES, FRAME_SIDE, FRAMES_PER_SECOND = 150, 480, 25.0
SEED = 7


class Step(NamedTuple):
    """One command, what it is for, and the file whose presence says that it was done."""

    what: str
    product: str
    arguments: tuple[str, ...]


_DATA = ("--data", "photographs", "--label-column", "grade")
STEPS = (
    Step(
        "A teacher: a pretrained classifier, fine-tuned",
        "runs/teacher/model.json",
        ("train-teacher", *_DATA, "--model", "tf_efficientnet_lite0", "--size", f"{SIDE}", "--epochs", "8",
         "--out", "runs/teacher"),
    ),
    Step(
        "A student and its explainer, taught by it",
        "runs/student/report.html",
        ("train", *_DATA, "--teacher", "runs/teacher", "--masks", "photographs", "--size", f"{SIDE}",
         "--epochs", "9", "--joint-epochs", "4", "--out", "runs/student"),
    ),
    Step(
        "Are answers and maps worth anything? An independent judge, a rival, and the exact masks",
        "evaluation/report.html",
        ("evaluate", "runs/student", "--masks", "photographs", "--against", "gradcam", "--quick",
         "--evaluator-epochs", "4", "--out", "evaluation"),
    ),
    Step(
        "One file of the pair, compared with PyTorch",
        "demo.medtex",
        ("export", "runs/student", "--fp16", "--out", "demo.medtex"),
    ),
    Step("Every sum and answer of the file, checked again", "", ("verify", "demo.medtex")),
    Step(
        "A video through the file, as on a device",
        "overlay.mp4",
        ("run", "demo.medtex", "--source", "video.mp4", "--no-display", "--save", "overlay.mp4",
         "--readings", "readings.jsonl"),
    ),
)  # fmt: skip
PRODUCTS = (
    ("photographs", "photographs/", f"{PHOTOGRAPHS} drawn ones, their grades and lesion masks"),
    ("teacher", "runs/teacher/", ""),
    ("student and explainer", "runs/student/", ""),
    ("report", "evaluation/report.html", "open it in a browser"),
    ("bundle", "demo.medtex", "all that a device needs"),
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
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="demo", show_default=True,
              help="Folder for everything that is made; finished parts in it are kept.")  # fmt: skip
def demo(out: Path) -> None:
    """Do the whole way once: teacher, student and explainer, bundle, video with overlay, report.

    The photographs are drawn by a program. Takes some minutes on two cores; a demo that was interrupted goes on
    where it stopped.
    """
    from rich.console import Console

    from medtex_edge.files import storage

    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with storage(out, "make"):
        out.mkdir(parents=True, exist_ok=True)
    total = len(STEPS) + 1
    console.print("[bold yellow]Synthetic photographs: this shows how the commands work, nothing about eyes.[/]")
    _title(console, 1, total, "Photographs of eyes that do not exist, and a video")
    _draw(console, out)
    for number, step in enumerate(STEPS, start=2):
        _title(console, number, total, step.what)
        _run(console, out, step)
    _close(console, out, time.monotonic() - started)


def _draw(console: Console, out: Path) -> None:
    from medtex_edge.progress import ProgressDisplay
    from medtex_edge.train.synthetic.dataset import write_dataset, write_video

    photographs, video = out / "photographs", out / "video.mp4"
    with ProgressDisplay(console) as display:
        if not (photographs / "labels.csv").exists():
            write_dataset(photographs, count=PHOTOGRAPHS, size=PHOTOGRAPH_SIDE, seed=SEED, progress=display)
        if not video.exists():
            write_video(video, SEED, FRAMES, FRAME_SIDE, FRAMES_PER_SECOND, grade=3, progress=display)


def _run(console: Console, out: Path, step: Step) -> None:
    """Run one command in `out`, in a process of its own: that is how it would be typed, and its memory goes back."""
    if step.product and (out / step.product).exists():
        console.print(f"kept from an earlier demo: {out / step.product}", style="dim", markup=False)
        return
    command = shlex.join(("medtex-edge", *step.arguments))
    console.print(f"{out} $ {command}", style="cyan", markup=False)
    code = subprocess.run([*_interpreter(), *step.arguments], cwd=out).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise _Failed(
            f"{command} ended with exit code {code}", code, hint=f"its own message stands above; it ran in {out}"
        )


def _interpreter() -> Sequence[str]:
    # Not `-m`: that would put the demo's folder before the installed packages.
    return (sys.executable, "-c", "import sys; from medtex_edge.cli import main; sys.exit(main())")


class _Failed(MedtexError):
    """A step's own failure, passed on with its exit code."""

    def __init__(self, message: str, exit_code: int, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def _title(console: Console, number: int, total: int, what: str) -> None:
    console.print(f"\n[bold]{number}/{total}  {what}[/]")


def _close(console: Console, out: Path, seconds: float) -> None:
    missing = [name for _, name, _ in PRODUCTS if not (out / name).exists()]
    if missing:
        raise StorageError(f"{out} lacks {', '.join(missing)}", hint=f"delete {out} and run the demo again")
    console.print(f"\n[bold green]Done[/] in {seconds / 60:.1f} minutes. What was made:\n")
    for what, name, remark in PRODUCTS:
        console.print(f"  {what:<22} {out / name}" + (f"   ({remark})" if remark else ""), markup=False)
    console.print("\nWith your own photographs (a CSV and an image folder, or a folder per class):\n")
    for line in OWN_DATA:
        console.print(f"  {line}")
    console.print("\nThis is no medical device.")
