"""`medtex-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medtex_edge.commands.invocation import command_line, quiet
from medtex_edge.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from medtex_edge.export.build import ExportResult


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--fp16", is_flag=True, help="Also a half-precision graph, half the size, for GPUs.")
@click.option("--int8", is_flag=True, help="Also a graph with most of its arithmetic in eight bits; takes minutes.")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle; default: NAME OF THE RUN.medtex, here.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Photographs to prove it on, if the run's own were moved."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; progress goes to stderr.")
def export(
    run: Path | None, fp16: bool, int8: bool, out: Path | None, data: Path | None, as_json: bool
) -> ExportResult:
    """Turn RUN (default: the newest in ./runs) into one .medtex file, or refuse.

    \b
    medtex-edge export
    medtex-edge export runs/eye --fp16 --int8 --out eye.medtex

    The file holds the model as an ONNX graph, fp32 and on request fp16 and int8, its contract, and the proof: on the
    run's validation photographs each graph must answer as the trained model does. No label may flip (int8: at most
    1 %). Where a number is beyond its bound, no bundle is written but a picture of the worst photographs.

    Exit codes: 0 exported, 4 a graph is beyond its bounds, 5 the run or its photographs cannot be used, 7 the model
    cannot be exported, 9 something could not be written.
    """
    from rich.console import Console

    from medtex_edge.settings import newest_run

    folder = run or newest_run()
    path = out or Path(f"{folder.resolve().name}.medtex")
    if path.suffix != ".medtex":
        raise SettingsError(f"--out: expected a name that ends in .medtex, got {path.name!r}")
    if path.is_dir():
        raise SettingsError(f"--out: {path} is a folder", hint="name a file, or delete that folder")
    # Only now: these take seconds, and a typing mistake should not.
    from medtex_edge.export.build import build
    from medtex_edge.progress import ProgressDisplay
    from medtex_edge.train.run_folder import load_run

    console = Console(stderr=as_json, quiet=quiet())
    command = command_line()
    with ProgressDisplay(console) as steps:
        steps.message(f"exporting {folder}")
        built = build(load_run(folder), path, fp16=fp16, int8=int8, data=data, command=command, steps=steps)
    if as_json:
        import json

        click.echo(json.dumps({"bundle": str(built.path), **built.report}, allow_nan=False))
    else:
        _show(console, built)
    return built


def _show(console: Console, built: ExportResult) -> None:
    from medtex_edge.commands.bundle import parity_table
    from medtex_edge.commands.estimate import lines

    console.print(parity_table(built.report))
    for line in lines(built.report):
        console.print(line, highlight=False, soft_wrap=True)
    size = built.path.stat().st_size / 1e6
    console.print(f"[bold]bundle[/]  {built.path}  ({size:.1f} MB)", highlight=False, soft_wrap=True)
    console.print(f"[bold]next[/]    medtex-edge run {built.path} --camera", highlight=False, soft_wrap=True)
