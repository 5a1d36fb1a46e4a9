"""`medtex-edge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medtex_edge.commands.invocation import command_line, quiet
from medtex_edge.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from medtex_edge.bundle import Bundle
    from medtex_edge.evaluate.subject import Floats, Images, Subject
    from medtex_edge.train.compute.device import Compute
    from medtex_edge.train.models.teacher import Teacher

SPLITS = ("train", "val", "test", "all")
BATCH = 32  # photographs that a bundle reads at once


@click.command()
@click.argument("subject", required=False, metavar="RUN|BUNDLE", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Labelled photographs.  [default: the run's own]")
@click.option("--split", type=click.Choice(SPLITS), default="val", show_default=True, help="Which of them.")
@click.option("--masks", type=click.Path(path_type=Path), help="Folder with lesion masks: images/ and masks/.")
@click.option(
    "--against",
    default="gradcam,gradcam++,layercam,ig,rise",
    show_default=True,
    help="Attribution methods to compare with; '' for none.",
)
@click.option("--teacher", help="As for `train`.  [default: the run's own, if it is still there]")
@click.option(
    "--evaluator",
    type=click.Path(path_type=Path),
    help="A run of `train --method masked` that measures the maps.  [default: one is trained into OUT/evaluator]",
)
@click.option("--evaluator-epochs", type=click.IntRange(0), help="Of training one; 0: none.  [default: 20]")
@click.option(
    "--compare",
    "others",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another run on the same photographs: a variant, a baseline, another seed. Repeatable.",
)
@click.option("--curve", type=click.Path(path_type=Path), help="What `medtex-edge curve --out` wrote.")
@click.option("--group-column", "groups", multiple=True, help="CSV column with camera or site. Repeatable.")
@click.option("--image-column", help="CSV column with the file names.  [default: the run's, or image]")
@click.option("--label-column", help="CSV column with grades or class names.  [default: the run's, or label]")
@click.option("--split-column", help="CSV column with train, val or test.  [default: the run's, or split]")
@click.option("--image-folder", help="Folder of the CSV's images, if it is not found automatically.")
@click.option("--accept", multiple=True, metavar="PROBLEM", help="Accept a named problem of the data. Repeatable.")
@click.option("--quick", is_flag=True, help="Without RISE, integrated gradients, ROAD and the teacher as an evaluator.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("report"), show_default=True, help="Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json at the end; progress goes to stderr.")
def evaluate(
    subject: Path | None, out: Path, as_json: bool, threads: int | None, **options: Any
) -> tuple[Path, dict[str, Any]]:
    """Measure a run or a bundle (default: the newest run in ./runs): answers, maps, baselines, cost.

    OUT/evaluation.json holds all figures, next to the maps themselves and a gallery; OUT/report.html shows them. No
    threshold and no temperature is fitted to the photographs that are measured on.

    \b
    Example:
      medtex-edge evaluate runs/mine --masks lesions/ --out report/
      medtex-edge evaluate mine.medtex --data other_clinic/ --label-column grade --split all --out report/
    """
    from rich.console import Console

    from medtex_edge.settings import newest_run

    console, folder = Console(stderr=as_json, quiet=quiet()), subject or newest_run()
    # Only now: these take seconds, and a typing mistake should not.
    import torch

    from medtex_edge.evaluate.model_card import write_evaluation_card
    from medtex_edge.evaluate.report.report import write_evaluation_report
    from medtex_edge.evaluate.request import EvaluateOptions, prepare
    from medtex_edge.evaluate.run import evaluate as measure
    from medtex_edge.files import without_folders
    from medtex_edge.progress import ProgressDisplay
    from medtex_edge.train.compute import device
    from medtex_edge.train.prepare import provenance

    if threads:
        torch.set_num_threads(threads)
    compute = device.choose("auto")
    opened = open_subject(folder, compute)
    command = without_folders(command_line())
    made: dict[str, Any] = {"name": opened.name, "command": command, "provenance": provenance(compute.description)}
    with ProgressDisplay(console) as steps:
        request = prepare(EvaluateOptions(out=out, **options), opened, compute, steps)
        with steps.step("cost"):
            made["cost"] = _cost(opened, request.teacher, timed=not options["quick"])
        found = measure(request, out, steps, made)
        with steps.step("report"):
            write_evaluation_report(out)
            write_evaluation_card(found, out / "model_card.md")
    if as_json:
        import json

        click.echo(json.dumps(found, allow_nan=False))
    else:
        _show(console, found, out)
    return out, found


def open_subject(path: Path, compute: Compute) -> Subject:
    """A run folder or a .medtex file. Raises `DataError`, `BundleError`, `BackendError`."""
    from medtex_edge.bundle import Bundle
    from medtex_edge.evaluate.subject import subject_of_run
    from medtex_edge.train.run_folder import load_run

    if path.is_dir():
        return subject_of_run(load_run(path), compute)
    if path.suffix != ".medtex" and not path.is_file():
        raise DataError(f"there is no run or bundle {path}", hint="name a run folder or a .medtex file")
    return subject_of_bundle(Bundle.open(path))


def subject_of_bundle(bundle: Bundle) -> Subject:
    """A bundle, read through ONNX Runtime: it answers as it will on a device, and shows no weights."""
    import numpy as np

    from medtex_edge.evaluate.subject import Subject
    from medtex_edge.runtime.backend import open_backend
    from medtex_edge.train.data.dataset import DataOptions

    contract = bundle.contract
    backend = open_backend("onnxruntime", bundle)
    provenance = bundle.report.get("provenance")
    made = provenance.get("run") if isinstance(provenance, dict) else None
    made = made if isinstance(made, dict) else {}
    seed = made.get("seed")

    def read(images: Images) -> tuple[Floats, Floats | None]:
        parts = [backend.infer(np.array(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
        return np.concatenate([p.probabilities for p in parts]), np.concatenate([p.saliency for p in parts])

    if contract.height != contract.width:
        raise DataError(f"{bundle.path}: expected a square input, got {contract.width} x {contract.height}")
    return Subject(
        "bundle", bundle.path, contract.name, str(made.get("student", "")), str(made.get("teacher", "")),
        str(made.get("method", "")), contract.classes, contract.referable, contract.ordered, contract.height,
        seed if isinstance(seed, int) else 0, contract.operating_point, str(made.get("data_fingerprint", "")), None,
        DataOptions(), read, cost=_counted(bundle.report),
    )  # fmt: skip


def _cost(subject: Subject, teacher: Teacher | None, *, timed: bool) -> dict[str, Any] | None:
    """The table `cost` of evaluation.json: counted, and timed on the CPU. A bundle holds what its export counted."""
    import copy

    from medtex_edge.evaluate.measures.speed import explanation_times
    from medtex_edge.train.config import EXPLAINED
    from medtex_edge.train.models.cost import costs

    if subject.model is None:
        return subject.cost
    if subject.method not in EXPLAINED:
        return None
    counted = costs(subject.model, teacher)
    return counted | (explanation_times(copy.deepcopy(subject.model).cpu()) if timed else {})


def _counted(report: Any) -> dict[str, Any] | None:
    """The same from a bundle's report, which is not trusted; None where it is not what an export writes."""
    parts = ("student", "explainer")
    counts = report.get("cost") if isinstance(report, dict) else None
    if not isinstance(counts, dict):
        return None
    table = {p: {"macs": counts.get(f"{p}_multiply_adds"), "parameters": counts.get(f"{p}_parameters")} for p in parts}
    macs = [value for part in parts if isinstance(value := table[part]["macs"], int) and value > 0]
    if len(macs) < len(parts):
        return None
    return {"teacher": None, **table, "explainer_over_student": macs[1] / macs[0], "student_over_teacher": None}


def _show(console: Console, found: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    models = Table(title=f"answers on {found['data']['n']} photographs", title_justify="left")
    for column in ("", "AUC referable (95 %)", "accuracy", "kappa", "sensitivity", "specificity"):
        models.add_column(column)
    for name, row in found["answer"]["models"].items():
        if row:
            point = row["operating_point"] or {}
            interval = row["auc_referable_interval"] or [None, None]
            auc = f"{_short(row['auc_referable'])} ({_short(interval[0])}-{_short(interval[1])})"
            cells = (row["accuracy"], row["qwk"], point.get("sensitivity"), point.get("specificity"))
            models.add_row(name.replace("_", " "), auc, *(_short(cell) for cell in cells))
    console.print(models)
    for title, part in (("maps", found["explanation"]), ("maps against lesion masks", found["lesions"])):
        if part and part["rows"]:
            _show_maps(console, title, part)
    for line in found["warnings"] + found["explanation"]["warnings"]:
        console.print(f"[yellow]{line}[/]", highlight=False)
    console.print(f"[bold]report[/]  {out / 'report.html'}", highlight=False, soft_wrap=True)


def _show_maps(console: Console, title: str, part: dict[str, Any]) -> None:
    """Ours, the controls, and each baseline once: at its best layer for each measure."""
    from rich.table import Table

    from medtex_edge.train.report.measures import BASELINE, LOWER

    keys = [key for key in ("pixel_auc", "pointing", "deletion", "insertion", "road") if key in part["measures"]]
    if not keys:
        return
    table = Table(title=title, title_justify="left")
    for column in ("", *(part["measures"][key]["title"] for key in keys)):
        table.add_column(column)
    best: dict[str, dict[str, float]] = {}
    for row in part["rows"]:
        name = f"{row['name']} of the {row['of']}" if row["kind"] == BASELINE else row["name"].replace("_", " ")
        mine = best.setdefault(name, {})
        for key in keys:
            if key in row["measures"]:
                value = row["measures"][key]["value"]
                choose = min if part["measures"][key]["better"] == LOWER else max
                mine[key] = choose(value, mine.get(key, value))
    for name, values in best.items():
        table.add_row(name, *(_short(values.get(key)) for key in keys))
    console.print(table)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
