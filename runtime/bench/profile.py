"""The table of layers: the time of each on each engine, as a file and in the terminal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medtex_edge.bundle import Bundle
from medtex_edge.errors import MedtexError, SettingsError
from medtex_edge.files import atomic_write, sha256, without_folders, write_json
from medtex_edge.runtime.backend.profile import LAUNCHING, RUNS, WARM_UP, LayerTime, Profile, profile
from medtex_edge.runtime.console import print_line, printable

SCHEMA = "medtex-edge/profile/1"
ENDINGS = (".json", ".csv")
_MOST = 10  # layers in the terminal


def check_ending(path: Path) -> None:
    """Raise `SettingsError` unless the name ends in one of `ENDINGS`."""
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"--profile: expected a name that ends in .json or .csv, got {path}")


def measure(
    path: Path,
    engines: Sequence[tuple[str, str]],
    threads: int | None,
    on_message: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Profile each engine, (backend, precision), of a bundle and return a value for `json.dumps`.

    Raises `MedtexError` where it is one engine and cannot be profiled; one of several has its `error` in the result.
    """
    bundle = Bundle.open(path)
    found = []
    for backend, precision in engines:
        on_message(f"layers of {backend} {precision}")
        watched, error = None, None
        try:
            watched = profile(backend, bundle, precision=precision, threads=threads)
        except MedtexError as failed:
            if len(engines) == 1:
                raise
            error = without_folders(failed.message)
        found.append({"backend": backend, "precision": precision, "error": error, **_to_json(watched)})
    return {
        "schema": SCHEMA,
        "bundle": path.name,
        "bundle_sha256": sha256(path),
        "model": bundle.contract.name,
        "threads": threads,
        "runs": RUNS,
        "warm_up": WARM_UP,
        "profiles": found,
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write JSON, or CSV with a row per layer, by the ending. Raises `StorageError`."""
    if path.suffix.lower() == ".json":
        write_json(path, report)
        return
    names = [field.name for field in fields(LayerTime)]
    with atomic_write(path, "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        # The graph's precision and the layer's own are two things: an engine converts where it has no kernel.
        rows.writerow(["backend", "graph", "clock", *("layer" if name == "name" else name for name in names)])
        for each in report["profiles"]:
            head = (each["backend"], each["precision"], each["clock"])
            rows.writerows([*head, *(layer[name] for name in names)] for layer in each["layers"])


def show(report: dict[str, Any]) -> None:
    """Print the most costly layers of each engine on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    for each in report["profiles"]:
        title = f"{each['backend']} {each['precision']}"
        if each["error"]:
            print_line(console, f"{title}: no layers: {each['error']}")
            continue
        table = Table(title=printable(_title(each, title)), title_justify="left")
        table.add_column("layer", overflow="fold")
        for name in ("kind", "part", "precision"):
            table.add_column(name)
        for name in ("ms", "share"):
            table.add_column(name, justify="right", no_wrap=True)
        for layer in sorted(each["layers"], key=lambda layer: -layer["ms"])[:_MOST]:
            texts = (printable(layer[name]) for name in ("name", "kind", "part", "precision"))
            table.add_row(*texts, f"{layer['ms']:.3f}", f"{layer['share']:.1%}")
        console.print(table, markup=False)


def _title(layers: dict[str, Any], name: str) -> str:
    parts = ", ".join(f"{part} {share:.0%}" for part, share in layers["parts"].items() if part)
    launching = ": the time to launch them, not that of the GPU" if layers["clock"] == LAUNCHING else ""
    return (
        f"{name}: the {min(_MOST, len(layers['layers']))} most costly of {len(layers['layers'])} layers, "
        f"{layers['ms']:.2f} ms in all{launching}" + (f" ({parts})" if parts else "")
    )


def _to_json(watched: Profile | None) -> dict[str, Any]:
    if watched is None:
        return {"clock": None, "ms": None, "parts": {}, "layers": []}
    shares: dict[str, float] = {}
    for layer in watched.layers:
        shares[layer.part] = shares.get(layer.part, 0.0) + layer.share
    return {
        "clock": watched.clock,
        "ms": round(sum(layer.ms for layer in watched.layers), 4),
        "parts": {part: round(shares[part], 4) for part in sorted(shares, key=shares.__getitem__, reverse=True)},
        "layers": [
            {**asdict(layer), "ms": round(layer.ms, 4), "share": round(layer.share, 5)} for layer in watched.layers
        ],
    }
