"""`medtex-edge engine`: the TensorRT engines of this device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medtex_edge.errors import BackendError, BundleError

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle
    from medtex_edge.runtime.engines.cache import Cache, Entry
    from medtex_edge.runtime.engines.key import EngineKey

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_STEP = 0.01  # of progress that is worth a line


@click.group()
def engine() -> None:
    """Build, list and prune the TensorRT engines of this device.

    \b
    medtex-edge engine build eye.medtex --precision fp16
    medtex-edge engine list

    `medtex-edge run` builds what it needs by itself. An engine belongs to one graph, one GPU, one TensorRT and one
    driver; it is kept in $XDG_CACHE_HOME/medtex-edge/engines, or ~/.cache/medtex-edge/engines.
    """


@engine.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8"]),
    help="Which of the bundle's graphs.  [default: fp16 where there is one, else fp32]",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Also where there is one already, or one was refused.")
@click.option("--parent", type=int, hidden=True)
@_JSON
def build(bundle: Path | None, precision: str | None, again: bool, parent: int | None, as_json: bool) -> None:
    """Build the engine of BUNDLE (default: the newest *.medtex here), prove it, and keep it.

    \b
    medtex-edge engine build eye.medtex --precision fp16

    Its answers have to be those of the bundle's golden vectors; one with other answers is put aside and not built
    again. A second build waits for the first, and finds its engine. With --json one object a line: steps, then the
    result.

    Exit codes: 0 the engine is there, 3 the bundle is damaged or the engine does not reproduce it, 7 TensorRT is
    missing or fails, 9 the engine could not be written.
    """
    from medtex_edge.bundle import Bundle
    from medtex_edge.runtime.engines import build
    from medtex_edge.runtime.engines import key as engine_key
    from medtex_edge.runtime.engines.cache import Cache
    from medtex_edge.settings import newest_bundle

    if parent is not None:
        build.follow_parent(parent)
    opened = Bundle.open(bundle or newest_bundle())
    key = engine_key.key_of(opened, engine_key.precision_of(opened, precision))
    cache = Cache(on_message=lambda line: click.echo(line, err=True))
    with _progress(as_json) as progress, cache.building(lambda: progress("waiting for another build", 0.0)):
        if again:
            cache.remove(key)
        why = cache.refused(key)
        if why:
            raise BundleError(f"the engine of {key.precision} was refused: {why}", hint="--again builds it once more")
        there = cache.get(key) is not None
        if not there:
            _build(opened, key, cache, progress)
    entry = next(entry for entry in cache.list() if entry.key == key)
    if as_json:
        click.echo(json.dumps({"ok": True, "built": not there, **entry.to_json()}, allow_nan=False))
    else:
        click.echo(f"{entry.path}: {'is there already' if there else _build_summary(entry)}")


@engine.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """Show the engines that are kept, newest first, and which of them this device can use.

    \b
    medtex-edge engine list --json
    """
    from medtex_edge.runtime.engines.cache import Cache

    cache = Cache()
    mine, _ = _mine()
    rows = [(entry, _state(entry, mine)) for entry in cache.list()]
    if as_json:
        click.echo(json.dumps([{**entry.to_json(), "state": state} for entry, state in rows], allow_nan=False))
        return
    if not rows:
        click.echo(f"no engines in {cache.folder}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("state", "graph", "for", "built", "MB", title=str(cache.folder), title_justify="left")
    for entry, state in rows:
        key = entry.key
        graph = f"{key.precision} {key.graph_sha256[:12]}" if key else entry.path.name
        place = f"{key.gpu} ({key.capability}), {key.trt_module} {key.trt_version}, driver {key.driver}" if key else ""
        cells = (state, graph, entry.why or place, entry.created, f"{entry.size / 1e6:.1f}")
        table.add_row(*(Text(_plain(cell), overflow="fold") for cell in cells))
    Console(highlight=False).print(table)


@engine.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@click.option("--all", "everything", is_flag=True, help="Remove every engine.")
@_JSON
def prune(bundles: tuple[Path, ...], everything: bool, as_json: bool) -> None:
    """Remove engines that this device cannot use any more: of another GPU, TensorRT or driver, and damaged ones.

    \b
    medtex-edge engine prune
    medtex-edge engine prune --all

    With BUNDLEs, also those that are of none of their graphs. Exit code 7 where TensorRT cannot be loaded.
    """
    from medtex_edge.bundle import Bundle
    from medtex_edge.runtime.engines.cache import Cache

    graphs = {digest for each in bundles for digest in Bundle.open(each).manifest.values()}
    mine, why = _mine()
    if mine is None and not everything:
        raise BackendError(f"it is unknown which engines this device can use: {why}", hint="--all removes every one")

    def keep(entry: Entry) -> bool:
        known = entry.key is not None and _state(entry, mine) in ("ready", "refused")
        return not everything and known and (not graphs or (entry.key is not None and entry.key.graph_sha256 in graphs))

    gone = Cache().prune(keep)
    if as_json:
        click.echo(json.dumps({"removed": [entry.to_json() for entry in gone]}, allow_nan=False))
    else:
        click.echo(f"{len(gone)} engines removed, {sum(entry.size for entry in gone) / 1e6:.1f} MB")


def _build(bundle: Bundle, key: EngineKey, cache: Cache, progress: Callable[[str, float], None]) -> None:
    """Build, prove and keep it. Nothing of it is on the disk before it is proved."""
    from medtex_edge.export.tensorrt import builder
    from medtex_edge.runtime.backend.handover import open_proved
    from medtex_edge.runtime.backend.tensorrt import runner

    made = builder.build(
        runner.module(), bundle.model(key.precision), contract=bundle.contract, label=key.precision,
        timing_cache=cache.timing_path(key), progress=progress,
    )  # fmt: skip
    report = made.report()
    progress("proving", 1.0)
    try:
        open_proved(bundle, key.precision, made.plan).close()
    except BundleError as error:
        cache.refuse(key, made.plan, error.message, report)
        raise
    cache.put(key, made.plan, report)


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str, float], None]]:
    """Yield a callback that shows the step and its fraction: as JSON lines, else as a bar."""
    if not as_json:
        from rich.console import Console

        from medtex_edge.progress import ProgressDisplay

        with ProgressDisplay(Console(stderr=True)) as display, display.task("reading the bundle", 1.0) as task:
            yield lambda step, done: task.update(done, name=step)
        return
    last: tuple[str, float] = ("", 0.0)

    def report_step(step: str, done: float) -> None:
        nonlocal last
        if step != last[0] or done - last[1] >= _STEP:
            last = (step, done)
            # Flushed: the reader of this line waits for it.
            print(json.dumps({"step": step, "done": round(done, 3)}), flush=True)

    yield report_step


def _mine() -> tuple[EngineKey | None, str]:
    """A key of this device, whatever the graph; else why there is none."""
    from medtex_edge.runtime.engines import key as engine_key

    try:
        return engine_key.key_of_graph("", ""), ""
    except BackendError as error:
        return None, error.message


def _state(entry: Entry, mine: EngineKey | None) -> str:
    """As in `Entry`, or "foreign" where this device is known and is another."""
    if entry.key is not None and mine is not None and not entry.key.fits(mine):
        return "foreign"
    return entry.state


def _build_summary(entry: Entry) -> str:
    report: Any = entry.report or {}
    return f"built in {report['seconds']:.0f} s and proved, {entry.size / 1e6:.1f} MB"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
