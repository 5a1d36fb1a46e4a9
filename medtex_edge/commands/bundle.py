"""`medtex-edge inspect` and `medtex-edge verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medtex_edge.commands import estimate
from medtex_edge.errors import BackendError, BundleError

if TYPE_CHECKING:
    from rich.table import Table

    from medtex_edge.bundle import Bundle

_FILE = click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[BUNDLE]")
_PARITY = {
    "n": "photographs",
    "labels": "label_flips",
    "verdicts": "verdict_flips",
    "prob.": "probability",
    "saliency": "saliency",
    "rank": "rank_correlation",
}
_ENGINES = {"onnxruntime": "ONNX Runtime", "rounded": "rounding", "tensorrt": "TensorRT"}
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@_FILE
@_JSON
def verify(file: Path | None, as_json: bool) -> None:
    """Check every checksum of BUNDLE (default: the newest *.medtex here) and recompute its golden vectors.

    \b
    medtex-edge verify eye.medtex

    Each graph in the bundle is run by ONNX Runtime on this machine, and has to give the answers that the trained
    model gave when the bundle was made. Writes nothing.

    Exit codes: 0 everything holds, 3 the bundle is damaged or its answers differ, 7 ONNX Runtime is missing.
    """
    from medtex_edge.runtime.backend import onnxruntime
    from medtex_edge.runtime.backend.golden_check import bounds, check_golden

    bundle = _open(file)
    drifts: dict[str, dict[str, float]] = {}
    for precision in bundle.precisions:
        try:
            with onnxruntime.open(bundle, precision=precision) as backend:
                try:
                    drift = check_golden(backend, bundle, precision)
                except BackendError as error:  # the engine runs, and the graph gives nonsense
                    raise BundleError(error.message, hint=error.hint) from error
        except BundleError as error:
            message = error.message.removeprefix(f"{bundle.path}: ")
            raise BundleError(f"{bundle.path}: {precision}: {message}", hint=error.hint) from error
        drifts[precision] = {"probability": drift.probability, "saliency": drift.saliency}
    count = len(bundle.golden)
    if as_json:
        found = {"bundle": str(bundle.path), "members": len(bundle.members), "golden_frames": count, "drift": drifts}
        click.echo(json.dumps({"ok": True, **found}, allow_nan=False))
        return
    click.echo(f"{bundle.path}: whole; {len(bundle.members)} members, every checksum holds")
    for precision, drift_of in drifts.items():
        highest, widest = bounds(precision)
        click.echo(
            f"  {precision}: {count} golden frames recomputed by ONNX Runtime; probability off by at most "
            f"{drift_of['probability']:.2g} (bound {highest:g}), saliency by {drift_of['saliency']:.2g} "
            f"(bound {widest:g})"
        )


@click.command()
@_FILE
@_JSON
@click.option("--card", is_flag=True, help="Print its model card (Markdown) instead.")
def inspect(file: Path | None, as_json: bool, card: bool) -> None:
    """Show what BUNDLE (default: the newest *.medtex here) promises: contract, members, what was measured.

    \b
    medtex-edge inspect eye.medtex
    medtex-edge inspect eye.medtex --card

    Every checksum is verified; the model is not run (that is `medtex-edge verify`).
    """
    bundle = _open(file)
    text = bundle.card()
    if card and not as_json:
        if text is None:
            raise BundleError(f"{bundle.path}: no model card in it", hint="export the run again: training writes one")
        click.echo("\n".join(_inert(line) for line in text.splitlines()))
        return
    if as_json:
        members = {
            name: {"size": member.size, "sha256": bundle.manifest.get(name)} for name, member in bundle.members.items()
        }
        value = {
            "bundle": str(bundle.path), "contract": bundle.contract.to_json(), "precisions": list(bundle.precisions),
            "members": members, "golden_frames": len(bundle.golden), "report": bundle.report, "model_card": text,
        }  # fmt: skip
        click.echo(json.dumps(value, allow_nan=False))
        return
    from rich.console import Console

    console = Console()
    console.print(f"[bold]{_plain(bundle.contract.name)}[/]  {_plain(bundle.path)}", highlight=False, soft_wrap=True)
    for table in (
        _contract(bundle),
        _metrics(bundle),
        parity_table(bundle.report),
        _provenance(bundle),
        _members(bundle),
    ):
        if table.row_count:
            console.print(table)
    for line in estimate.lines(bundle.report):
        console.print(_plain(line), highlight=False, soft_wrap=True)
    if text is not None:
        console.print("a model card is in it: medtex-edge inspect --card", highlight=False)


def _open(file: Path | None) -> Bundle:
    from medtex_edge.bundle import Bundle
    from medtex_edge.settings import newest_bundle

    return Bundle.open(file or newest_bundle())


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _contract(bundle: Bundle) -> Table:
    c, point = bundle.contract, bundle.contract.operating_point
    table = _table("contract", "", "")
    low, high = (f"{value:.3f}" for value in point.sensitivity_interval)
    down, up = (f"{value:.3f}" for value in point.specificity_interval)
    rows = {
        "image": f"(N, {c.height}, {c.width}, 3) uint8 RGB, geometry {c.geometry}",
        "probabilities": f"(N, {len(c.classes)}) float32, temperature {c.temperature:g} applied",
        "saliency": f"(N, {c.saliency_height}, {c.saliency_width}) float32 in 0..1",
        "classes": ", ".join(c.classes) + (" (ordered grades)" if c.ordered else ""),
        "referable": ", ".join(c.classes[index] for index in c.referable),
        "operating point": f"referable probability >= {point.threshold:.4f}",
        "sensitivity": f"{point.sensitivity:.3f} ({low}-{high}), wanted {point.target_sensitivity:g}",
        "specificity": f"{point.specificity:.3f} ({down}-{up})",
        "fixed on": f"{point.positives} referable and {point.negatives} other photographs",
        "created": c.created,
    }
    for name, value in rows.items():
        table.add_row(name, _plain(value))
    return table


def _metrics(bundle: Bundle) -> Table:
    """Every number of the report's metrics by its dotted name; the report is free in form."""
    table = _table("measured in training", "", "")
    for name, value in _flat(bundle.report.get("metrics")):
        table.add_row(_plain(name), _plain(value))
    return table


def parity_table(report: dict[str, Any]) -> Table:
    """One row for each graph and engine that computes it; a report of another form gives fewer rows or cells."""
    from rich import box

    table = _table("against the trained model, on photographs")
    table.box, table.padding = box.SIMPLE, (0, 1, 0, 0)
    for column, right in (("graph", 0), ("MB", 1), ("computed by", 0), *((name, 1) for name in _PARITY)):
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    table.show_header = True
    precisions = report.get("precisions")
    for precision, entry in precisions.items() if isinstance(precisions, dict) else ():
        parities = entry.get("parity") if isinstance(entry, dict) else None
        for engine, found in parities.items() if isinstance(parities, dict) else ():
            values = found if isinstance(found, dict) else {}
            cells = {key: _short(values.get(key)) for key in _PARITY.values()}
            for kind in ("label", "verdict"):
                if values.get(f"{kind}_ties"):
                    cells[f"{kind}_flips"] += f" (+{_short(values[f'{kind}_ties'])} ties)"
            size = entry.get("bytes")
            megabytes = f"{size / 1e6:.1f}" if isinstance(size, int) else ""
            table.add_row(_plain(precision), megabytes, _plain(_ENGINES.get(engine, engine)), *cells.values())
    return table


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.4f}"
    return "-" if value is None else _plain(value)


def _provenance(bundle: Bundle) -> Table:
    """Command, versions, training and cost; the training's settings in full are in `--json`."""
    table = _table("where it comes from", "", "")
    made = bundle.report.get("provenance")
    shown = {key: value for key, value in made.items() if key != "settings"} if isinstance(made, dict) else made
    for value in (shown, bundle.report.get("cost")):
        for name, text in _flat(value):
            table.add_row(_plain(name), _plain(text))
    return table


def _members(bundle: Bundle) -> Table:
    table = _table("members", "", "bytes", "sha256")
    for name, member in bundle.members.items():
        table.add_row(name, f"{member.size:,}", bundle.manifest.get(name, "(the checksums themselves)"))
    return table


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Leaves of a JSON value as (dotted name, text), lists on one line."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _flat(item, f"{name}.{key}" if name else str(key))]
    if isinstance(value, float):
        return [(name, f"{value:.4g}")]
    if isinstance(value, list):
        numbers = [f"{item:.4g}" if isinstance(item, float) else str(item) for item in value]
        return [(name, ", ".join(numbers))]
    return [] if value is None else [(name, str(value))]


def _plain(value: object) -> str:
    """Text from an untrusted file, without control characters and markup."""
    from rich.markup import escape

    return escape(_inert(value))


def _inert(value: object) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
