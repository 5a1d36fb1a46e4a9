"""`medtex-edge curve`: the quality of methods against the fraction of labels."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medtex_edge.commands import training_options as options
from medtex_edge.commands.training_options import label_options, shared_options, student_options, teacher_options
from medtex_edge.errors import SettingsError

if TYPE_CHECKING:
    from medtex_edge.train.loop.reporter import Reporter
    from medtex_edge.train.prepare import DataSource


@click.command("curve")
@click.option(
    "--fractions", default="0.1,0.25,0.5,1", show_default=True, help="Fractions of the labelled training photographs."
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number of seeds, from --seed on.")
@click.option(
    "--methods",
    default="supervised,hinton,medtex",
    show_default=True,
    help="Methods, as `medtex-edge train --method` names them.",
)
@click.option("--light", is_flag=True, help="Train only the masked student of our method: faster, without explainer.")
@click.option(
    "--teacher", help="As for `train`; `{seed}` stands for the seed.  [default: one per seed is trained first]"
)
@teacher_options
@student_options
@label_options
@click.option("--steps", type=click.IntRange(1), help="Steps of every training.  [default: those of the epochs]")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Number of trainings in parallel.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs") / "curve",
    show_default=True,
    help="Folder; finished trainings in it are not repeated.",
)
@shared_options
def curve(
    fractions: str,
    seeds: int,
    methods: str,
    light: bool,
    teacher: str | None,
    slim: bool,
    steps: int | None,
    jobs: int,
    out: Path,
    as_json: bool,
    **values: Any,
) -> None:
    """Measure distilled and supervised methods with fewer and fewer labels, each in the same number of steps.

    Distilled students appear twice: with the photographs of the fraction alone, and with all others as photographs
    without labels. The command writes curve.json and curve.png.

    \b
    Example:
      medtex-edge curve --data photos/ --label-column grade --teacher runs/teacher --seeds 3 --jobs 2 --out curve/
    """
    from medtex_edge.files import write_json
    from medtex_edge.train.curve.curve import CurvePlan, measure_curve
    from medtex_edge.train.curve.plot import plot_curve
    from medtex_edge.train.prepare import open_dataset

    started = time.monotonic()
    file_options = options.file_options(values)
    shared = {name: values.pop(name) for name in options.SHARED}
    threads = shared["threads"] or os.cpu_count() or 1
    given = options.given(**values, **options.training(shared))
    with options.reporter(as_json, out, shared) as (reporter, _):
        source, synthetic = options.source(shared, reporter)
        first = int(shared["seed"])
        chosen = tuple(range(first, first + seeds))
        plan = CurvePlan(
            source=source,
            teacher=teacher or _own_teachers(chosen, shared["precision"], source, synthetic, out, reporter),
            teacher_options=file_options,
            methods=tuple("masked" if light and m == "medtex" else m for m in _list(methods)),
            fractions=_numbers(fractions),
            seeds=chosen,
            settings=options.preset(synthetic, slim) | given,
            steps=steps or 0,
        )
        dataset = open_dataset(source, first, reporter)
        found = measure_curve(
            plan,
            dataset,
            out,
            jobs=jobs,
            threads=threads,
            on_progress=lambda done, count: reporter.message(f"{done} of {count} trainings done"),
        )
        found["light"] = light
        found["command"] = "medtex-edge " + shlex.join(sys.argv[1:])
        found["seconds"] = round(time.monotonic() - started)
        write_json(out / "curve.json", found)
        plot_curve(found, out / "curve.png")
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found, out)


def _own_teachers(
    seeds: tuple[int, ...], precision: str, source: DataSource, synthetic: bool, out: Path, reporter: Reporter
) -> str:
    for seed in seeds:
        options.own_teacher(seed, precision, source, synthetic, out / f"{seed}", reporter)
    return str(out / "{seed}-teacher")


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _list(text))
    except ValueError:
        raise SettingsError(
            f"--fractions: expected numbers with commas between them, got {text!r}", hint="for example 0.1,0.25,0.5,1"
        ) from None


def _show(found: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from medtex_edge.train.curve.curve import differences
    from medtex_edge.train.curve.plot import by_fraction

    console = Console()
    spread = "mean +- standard deviation" if len(found["seeds"]) > 1 else "one seed"
    table = Table(title=f"AUC of referable, {spread}, {found['steps']} steps each", title_justify="left")
    heads = ["", *(f"{100 * f:.3g} %" for f in sorted(found["fractions"]))]
    for head in heads:
        table.add_column(head)
    for line in found["methods"].values():
        values = by_fraction(line["points"], "auc_referable")
        table.add_row(line["title"], *(_cell(list(values.get(f, {}).values())) for f in sorted(found["fractions"])))
    console.print(table)
    ours = [name for name in found["methods"] if name.startswith(("medtex", "masked"))]
    baselines = [name for name in found["methods"] if name not in ours]
    if ours and baselines:
        paired = Table(title="ours minus the baseline, paired by seed (seeds won)", title_justify="left")
        for head in heads:
            paired.add_column(head)
        for mine in ours:
            for baseline in baselines:
                by = differences(found, mine, baseline)
                name = f"{found['methods'][mine]['title']} - {found['methods'][baseline]['title']}"
                paired.add_row(name, *(_difference(by.get(f, [])) for f in sorted(found["fractions"])))
        console.print(paired)
    console.print(f"[bold]curve[/]  {out / 'curve.json'}, {out / 'curve.png'}", highlight=False, soft_wrap=True)


def _cell(values: list[float]) -> str:
    from statistics import mean, stdev

    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" +- {stdev(values):.3f}" if len(values) > 1 else "")


def _difference(values: list[float]) -> str:
    from statistics import mean, stdev

    if not values:
        return "-"
    spread = f" +- {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):+.3f}{spread} ({sum(v > 0 for v in values)}/{len(values)})"
