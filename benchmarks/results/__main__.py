"""Every target of docs/evidence/results.md on real photographs, by one command: trainings, evaluations and the page.

    python -m benchmarks.results --data ../shared/data --out runs/results

Resumable: what is finished is kept, what was cut short goes on. Every job is a `medtex-edge` command that a user could
have typed; its output lies in OUT/logs. The figures of a finished job go to docs/evidence/figures, with the commit
that made them; a job whose figures lie there is not run again unless another needs its weights, or `--fresh` is given.
`--table-only` writes the page from whatever is there.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import click
from rich.console import Console

from benchmarks.results.claims import CURVE_SIZE
from benchmarks.results.page import keep_figures, write_page

EVALUATOR_SEED = 100  # added to the seed: the evaluator shares neither seed nor backbone with the student
CURVE_STEPS = 120
# One seed: they show what a term does, not who wins. The whole method is trained once more with them, since figures
# that were kept from another machine, whose sums round differently, are another training's.
ABLATIONS: dict[str, list[str]] = {
    "full": [],
    "no_local": ["--weight", "local=0"],
    "no_mid": ["--weight", "mid=0"],
    "no_budget": ["--weight", "budget=0"],
    "no_tv": ["--weight", "tv=0"],
}


@dataclass(frozen=True)
class Job:
    """A command, the file that says that it is finished, and the jobs that must be finished before."""

    name: str
    command: list[str]
    proof: str
    needs: list[str] = field(default_factory=list)


def plan(data: Path, out: Path, seeds: int, retinamnist: Path | None, *, jobs: int) -> list[Job]:
    """All jobs in the order in which they are worth having."""
    labels, lesions = data / "idrid" / "labels.csv", data / "idrid_lesions"
    photographs = ["--data", str(labels), "--label-column", "grade"]
    planned: list[Job] = []

    def train(name: str, seed: int, *more: str, teacher: int | None = None, masks: bool = False) -> None:
        taught = seed if teacher is None else teacher
        command = ["train", *photographs, "--teacher", str(out / f"teacher-{taught}"), "--seed", str(seed)]
        command += ["--masks", str(lesions)] if masks else []
        planned.append(Job(name, [*command, *more, "--out", str(out / name)], "model.json", [f"teacher-{taught}"]))

    def evaluate(seed: int) -> None:
        by = f"evaluator-{seed}"
        command = [
            "evaluate",
            str(out / f"medtex-{seed}"),
            "--masks",
            str(lesions),
            "--evaluator",
            str(out / by),
        ]
        name = f"evaluation-{seed}"
        planned.append(Job(name, [*command, "--out", str(out / name)], "evaluation.json", [f"medtex-{seed}", by]))

    for seed in range(seeds):
        name = f"teacher-{seed}"
        command = ["train-teacher", *photographs, "--seed", str(seed), "--out", str(out / name)]
        planned.append(Job(name, command, "model.json"))
    for seed in range(seeds):
        train(f"medtex-{seed}", seed, masks=True)
    for seed in range(seeds):
        train(
            f"evaluator-{seed}", EVALUATOR_SEED + seed, "--method", "masked", "--student", "tf_efficientnet_lite2",
            "--epochs", "10", teacher=seed,
        )  # fmt: skip
    for seed in range(seeds):
        evaluate(seed)
    for method in ("supervised", "hinton"):
        for seed in range(seeds):
            train(f"{method}-{seed}", seed, "--method", method)
    for seed in range(seeds):
        train(f"slim-{seed}", seed, "--slim", masks=True)
    command = [
        "evaluate",
        str(out / "slim-0"),
        "--masks",
        str(lesions),
        "--against",
        "",
        "--evaluator-epochs",
        "0",
        "--quick",
    ]
    planned.append(
        Job("evaluation-slim", [*command, "--out", str(out / "evaluation-slim")], "evaluation.json", ["slim-0"])
    )
    planned.append(
        Job(
            "labels",
            ["curve", *photographs, "--teacher", str(out / "teacher-{seed}"), "--fractions", "0.1,0.25,0.5",
             "--seeds", str(seeds), "--methods", "supervised", "--jobs", str(jobs), "--out", str(out / "labels")],
            "curve.json",
            [f"teacher-{seed}" for seed in range(seeds)],
        )
    )  # fmt: skip
    planned.append(
        Job(
            "curve",
            ["curve", *photographs, "--teacher", str(out / "teacher-{seed}"), "--fractions", "0.1,0.25,0.5,1",
             "--seeds", str(seeds), "--methods", "supervised,medtex", "--light", "--steps", str(CURVE_STEPS),
             "--size", str(CURVE_SIZE), "--jobs", str(jobs), "--out", str(out / "curve")],
            "curve.json",
            [f"teacher-{seed}" for seed in range(seeds)],
        )
    )  # fmt: skip
    if retinamnist is not None:
        command = ["benchmarks.retinamnist", "--data", str(retinamnist), "--out", str(out / "retinamnist")]
        planned.append(Job("retinamnist", command, "retinamnist.json"))
    train("paper-0", 0, "--method", "paper", masks=True)
    train("vid-0", 0, "--method", "vid")
    for name, weights in ABLATIONS.items():
        train(f"{name}-0", 0, *weights, masks=True)
    return planned


def wanted(planned: list[Job], named: set[str], out: Path, figures: Path | None) -> list[Job]:
    """Those of `named` without figures (figures None: all of them), and what these need and OUT does not hold."""
    by_name = {job.name: job for job in planned}
    chosen = {name for name in named if figures is None or not (figures / f"{name}.json").exists()}
    for job in reversed(planned):
        if job.name in chosen and not (out / job.name / job.proof).exists():
            chosen.update(need for need in job.needs if not (out / need / by_name[need].proof).exists())
    return [job for job in planned if job.name in chosen]


def run(planned: list[Job], out: Path, figures: Path, jobs: int, console: Console) -> list[str]:
    """Run what is not finished, `jobs` at once; returns the names of those that failed."""
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    threads = max((os.cpu_count() or 1) // jobs, 1)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def finished(job: Job) -> bool:
        return job.name not in running and (out / job.name / job.proof).exists()

    def ready(job: Job) -> bool:
        return all((out / need).is_dir() and (need not in by_name or finished(by_name[need])) for need in job.needs)

    by_name: dict[str, Job] = {job.name: job for job in planned}
    for job in planned:
        if finished(job):
            keep_figures(out / job.name, figures)
    try:
        while True:
            for name, (process, started) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                if process.returncode or not finished(by_name[name]):
                    failed.append(name)
                    console.print(f"[red]{name} failed[/], exit code {process.returncode}: {logs / name}.log")
                else:
                    keep_figures(out / name, figures)
                    console.print(f"{name} done in {(time.monotonic() - started) / 60:.1f} min")
            waiting = [job for job in planned if not (finished(job) or job.name in failed or job.name in running)]
            for job in [job for job in waiting if ready(job)][: jobs - len(running)]:
                with (logs / f"{job.name}.log").open("ab") as log:
                    process = subprocess.Popen(_arguments(job), stdout=log, stderr=subprocess.STDOUT, env=environment)
                running[job.name] = (process, time.monotonic())
                console.print(f"{job.name} started")
            if not running:
                # Nothing runs and nothing is ready: the rest waits for what failed.
                return failed + [job.name for job in waiting]
            time.sleep(1)
    except BaseException:
        for process, _ in running.values():
            process.terminate()
        raise


def _arguments(job: Job) -> list[str]:
    module = [] if job.command[0].startswith("benchmarks.") else ["medtex_edge"]
    return [sys.executable, "-m", *module, *job.command]


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/results"), show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="At once; they share the cores.")
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/evidence/results.md"), show_default=True)
@click.option("--fresh", is_flag=True, help="Measure again what docs/evidence/figures holds.")
@click.option("--table-only", is_flag=True, help="Write the page from what is there.")
@click.option("--only", multiple=True, metavar="NAME", help="These jobs alone, such as 'medtex-*'. Repeatable.")
@click.option("--list", "list_only", is_flag=True, help="Print the commands and stop.")
def main(
    data: Path,
    out: Path,
    seeds: int,
    jobs: int,
    page: Path,
    fresh: bool,
    table_only: bool,
    only: tuple[str, ...],
    list_only: bool,
) -> None:
    """Train, evaluate and write docs/evidence/results.md.

    \b
    Example:
      python -m benchmarks.results --data ../shared/data --out runs/results
    """
    # As an interrupt: what runs is ended, and goes on from its checkpoint next time.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    found = data / "retinamnist" / "retinamnist.npz"
    planned = plan(data, out, seeds, found if found.exists() else None, jobs=jobs)
    if list_only:
        for job in planned:
            program = [] if job.command[0].startswith("benchmarks.") else ["medtex-edge"]
            click.echo(shlex.join([*program, *job.command]))
        return
    figures = page.parent / "figures"
    missing = []
    if not table_only:
        named = {job.name for job in planned if not only or any(fnmatch(job.name, name) for name in only)}
        missing = run(wanted(planned, named, out, None if fresh else figures), out, figures, jobs, console)
    write_page(figures, page, seeds, [job.name for job in planned if not (figures / f"{job.name}.json").exists()])
    console.print(f"results  {page}")
    if missing:
        console.print(f"[yellow]not finished: {', '.join(missing)}[/]; the same command goes on with them")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
