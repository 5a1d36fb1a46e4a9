"""`medtex-edge bench`: how long each stage of a frame takes on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from medtex_edge.errors import SettingsError


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--size", metavar="WIDTHxHEIGHT", help="Of the frames.  [default: 1920x1080, or the source's own]")
@click.option(
    "--format", "layout", default="bgr", show_default=True, type=click.Choice(["bgr", "nv12", "yuyv", "grey"]),
    help="How their pixels lie in memory: as OpenCV decodes, or as cameras deliver.",
)  # fmt: skip
@click.option("--source", metavar="WHAT", help="Photographs or a video to make them of.  [default: the bundle's own]")
@click.option(
    "--backend", default="onnxruntime", show_default=True, metavar="ENGINE[:PROVIDER]",
    help="The inference engine; all: each that is here, on the same frames, in turns.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8", "all"]),
    help="Which of the bundle's graphs.  [default: fp32; with --backend all, all]",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Cores for one inference.  [default: all]")
@click.option("--frames", default=300, show_default=True, type=click.IntRange(10), help="Frames to measure.")
@click.option("--json", "json_file", metavar="FILE", help="The report as JSON; - for standard output.")
@click.option("--png", type=click.Path(path_type=Path), help="The bars as a picture.")
@click.option(
    "--profile", type=click.Path(path_type=Path), metavar="FILE",
    help="What each layer costs, as .json or .csv, measured after the rest.",
)  # fmt: skip
def bench(
    bundle: Path | None,
    json_file: str | None,
    png: Path | None,
    profile: Path | None,
    size: str | None,
    backend: str,
    precision: str | None,
    **rest: Any,
) -> int:
    """Measure what BUNDLE (default: the newest *.medtex here) costs on this machine, per stage and in all.

    \b
    medtex-edge bench
    medtex-edge bench eye.medtex --size 1280x720 --format nv12 --png waterfall.png
    medtex-edge bench eye.medtex --backend all --profile layers.csv

    Frames pass the stages of `medtex-edge run`, from the camera's pixels to the drawn overlay: one at a time, each
    stage timed on its own, then in threads. They are made before the clock starts. Refused frames are not counted.

    With --backend all or --precision all, every engine and every graph that are here see the same frames one at a
    time, in turns. What cannot be opened, or does not give the bundle's own answers, is reported and not timed.

    Exit codes: 0 measured, 3 the bundle is damaged or this device does not reproduce it, 5 no frame could be
    scored, 7 the engine is missing or fails, 9 something could not be written.
    """
    from medtex_edge.files import write_json
    from medtex_edge.runtime.bench import compare
    from medtex_edge.runtime.bench import profile as bench_profile
    from medtex_edge.runtime.bench import report as bench_report
    from medtex_edge.runtime.bench.bench import BenchOptions, measure, parse_size
    from medtex_edge.settings import newest_bundle

    if png is not None and png.suffix.lower() != ".png":
        raise SettingsError(f"--png: expected a name that ends in .png, got {png}")
    if profile is not None:
        bench_profile.check_ending(profile)
    many = compare.ALL in (backend, precision)
    options = BenchOptions(
        bundle=bundle or newest_bundle(), size=parse_size(size) if size else None, backend=backend,
        precision=precision or (compare.ALL if many else "fp32"), **rest,
    )  # fmt: skip
    if many:
        with _status_line() as show_status:
            report = compare.compare(options, show_status)
    else:
        report = measure(options)
    reporter = compare if many else bench_report
    if json_file == "-":
        click.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        reporter.show(report)
        if json_file:
            write_json(json_file, report)
    if png:
        reporter.draw(report, png)
    if profile:
        engines = [(row["backend"], row["precision"]) for row in report["rows"] if row["in_turn"]] if many else []
        with _status_line() as show_status:
            layers = bench_profile.measure(
                options.bundle, engines or [(backend, options.precision)], options.threads, show_status
            )
        if json_file != "-":
            bench_profile.show(layers)
        bench_profile.write(layers, profile)
    return 0


@contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """Show the step under way in a line that disappears again; show nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.live import Live

    # Drawn only when there is something new: a thread that draws would take part in what is measured.
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda line: live.update(line, refresh=live.is_started and live.console.is_terminal)
