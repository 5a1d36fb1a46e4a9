"""`medtex-edge bench`: how long each part of a frame's way takes on this machine."""

from __future__ import annotations

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
    help="The inference engine.",
)  # fmt: skip
@click.option(
    "--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "fp16", "int8"]),
    help="Which of the bundle's graphs.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Cores for one inference.  [default: all]")
@click.option("--frames", default=300, show_default=True, type=click.IntRange(10), help="Frames to measure.")
@click.option("--json", "json_file", metavar="FILE", help="The report as JSON; - for standard output.")
@click.option("--png", type=click.Path(path_type=Path), help="The bars as a picture.")
def bench(bundle: Path | None, json_file: str | None, png: Path | None, size: str | None, **options: Any) -> int:
    """Measure what BUNDLE (default: the newest *.medtex here) costs on this machine, per stage and in all.

    \b
    medtex-edge bench
    medtex-edge bench eye.medtex --size 1280x720 --format nv12 --png waterfall.png

    Frames go the way of `medtex-edge run`, from the camera's pixels to the drawn overlay: one at a time, each stage
    under its own clock, then in threads. They are made before the clock starts, and what is refused is not counted.

    Exit codes: 0 measured, 3 the bundle is damaged or this device does not reproduce it, 5 no frame could be
    scored, 7 the engine is missing or fails, 9 something could not be written.
    """
    import json

    from medtex_edge.files import write_json
    from medtex_edge.runtime import bench_report
    from medtex_edge.runtime.bench import Options, measure
    from medtex_edge.runtime.bench_frames import parse_size
    from medtex_edge.settings import newest_bundle

    if png is not None and png.suffix.lower() != ".png":
        raise SettingsError(f"--png: expected a name that ends in .png, got {png}")
    wanted = parse_size(size) if size else None
    report = measure(Options(bundle=bundle or newest_bundle(), size=wanted, **options))
    if json_file == "-":
        click.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        bench_report.show(report)
        if json_file:
            write_json(json_file, report)
    if png:
        bench_report.draw(report, png)
    return 0
