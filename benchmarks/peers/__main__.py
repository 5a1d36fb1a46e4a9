"""Compare medtex-edge with common libraries: the same frames, the same student, the same threads, in turns.

    python -m benchmarks.peers eye.medtex --run runs/mine --json peers.json --png docs/images/peers.png

`baselines.py` holds the baselines. Ratios are medians over rounds, with their quartiles. Each target stands next to the
measured value. Where memory sets the limit, the report gives that limit, from the measured speed of a copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
from rich.console import Console
from rich.progress import track

from benchmarks.peers.baselines import Baseline, Engine, by_grad_cam, by_onnxruntime, by_openvino
from benchmarks.peers.report import picture, roofline, show, summary, targets
from benchmarks.peers.rounds import Case, Ours, play
from medtex_edge.bundle import Bundle
from medtex_edge.errors import MedtexError
from medtex_edge.files import write_json
from medtex_edge.image.geometry import native_available
from medtex_edge.runtime.backend import open_backend
from medtex_edge.runtime.bench.bench import Ring, golden_stills, parse_size, source_stills
from medtex_edge.runtime.bench.machine import describe, warnings

CASES = ("640x480:bgr", "1920x1080:bgr", "1920x1080:nv12")


def set_threads(threads: int) -> None:
    """Set the threads of the pixel code. The engines get their number of threads when they are opened."""
    cv2.setNumThreads(threads)
    if native_available():
        from medtex_edge import _native

        _native.set_threads(threads)


def engines(bundle: Bundle, run: Path | None, threads: int, on_message: Callable[[str], None]) -> dict[str, Engine]:
    """Open the baselines that this machine has. `on_message` gets the reason why another is left out."""
    model = bundle.model("fp32")
    openers: dict[str, Callable[[], Engine | None]] = {
        "a": lambda: by_onnxruntime(model, threads),
        "b": lambda: by_grad_cam(run, threads) if run else None,
        "c": lambda: by_openvino(model, threads),
    }
    found: dict[str, Engine] = {}
    for name, opener in openers.items():
        try:
            engine = opener()
        except ImportError as error:
            on_message(f"{name} is left out: {error}")
            continue
        if engine is None:
            on_message(f"{name} is left out: it needs --run, the run folder that the bundle was exported from")
        else:
            found[name] = engine
    return found


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--run", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Of the student, for b.")
@click.option("--source", help="Photographs or a video to make frames of.  [default: the bundle's own]")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="Of everything, alike.")
@click.option("--case", "wanted", multiple=True, default=CASES, show_default=True, metavar="SIZE:FORMAT")
@click.option("--rounds", default=100, show_default=True, type=click.IntRange(3))
@click.option("--json", "json_file", metavar="FILE", help="- for standard output.")
@click.option("--png", type=click.Path(path_type=Path))
def main(
    bundle: Path, run: Path | None, source: str | None, threads: int, wanted: tuple[str, ...], rounds: int,
    json_file: str | None, png: Path | None,
) -> None:  # fmt: skip
    console = Console(stderr=True)
    try:
        report = compare(bundle, run, source, threads, wanted, rounds, console)
        if json_file == "-":
            click.echo(json.dumps(report, indent=2, allow_nan=False))
        else:
            show(report)
            if json_file:
                write_json(json_file, report)
        if png:
            picture(report, png)
    except MedtexError as error:
        raise click.ClickException(f"{error.message}. {error.hint or ''}") from error


def compare(
    path: Path, run: Path | None, source: str | None, threads: int, wanted: tuple[str, ...], rounds: int,
    console: Console,
) -> dict[str, Any]:  # fmt: skip
    """All cases, as a value for `json.dumps`. Raises `MedtexError`."""
    bundle = Bundle.open(path)
    set_threads(threads)
    machine = describe("onnxruntime", "fp32")
    stills = source_stills(source)[0] if source else golden_stills(bundle)
    cases = []
    with open_backend("onnxruntime", bundle, threads=threads) as backend:
        opened = engines(bundle, run, threads, console.print)
        for text in track(wanted, "measuring", console=console, transient=True):
            shape, _, layout = text.partition(":")
            size = parse_size(shape)
            ring = Ring(stills, size, layout, whole=source is not None)
            ours = Ours(backend, bundle.contract)
            baselines = {name: Baseline(engine, bundle.contract) for name, engine in opened.items()}
            cases.append(play(ring, Case(size, layout), ours, baselines, bundle.contract, rounds))
    return {
        "schema": "medtex-edge/peers/2",
        "bundle": path.name,
        "threads": threads,
        "rounds": rounds,
        "machine": machine,
        "warnings": warnings(machine, None),
        "cases": [summary(case) for case in cases],
        "targets": targets(cases),
        "roofline": roofline(cases, bundle.contract, threads),
    }


if __name__ == "__main__":
    main()
