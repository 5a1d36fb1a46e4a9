"""What an explanation costs in addition to the answer: multiply-adds, and time in one interleaved run on this CPU.

python -m benchmarks.explainer_cost runs/medtex --teacher runs/teacher
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from medtex_edge.errors import MedtexError
from medtex_edge.evaluate.measures.speed import explanation_times
from medtex_edge.export.timing import REPEATS
from medtex_edge.train.compute.device import choose
from medtex_edge.train.models.cost import costs
from medtex_edge.train.models.teacher import load_teacher
from medtex_edge.train.run_folder import load_run


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--teacher", help="As for `medtex-edge train`.")
@click.option("--repeats", default=REPEATS, show_default=True, help="Turns; the median counts.")
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(run: Path, teacher: str | None, repeats: int, threads: int, as_json: bool) -> None:
    console = Console()
    try:
        trained = load_run(run)
        model = trained.load_model()
        taught = load_teacher(teacher, trained.classes, choose("fp32")) if teacher else None
        found = costs(model, taught) | explanation_times(model, repeats=repeats, threads=threads)
    except MedtexError as error:
        raise click.ClickException(f"{error.message}. {error.hint or ''}") from error
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table("part", "multiply-adds", "weights")
    for part in ("teacher", "student", "explainer", "graph"):
        if found[part]:
            table.add_row(part, f"{found[part]['macs'] / 1e6:.0f} M", f"{found[part]['parameters'] / 1e6:.2f} M")
    console.print(table)
    times = Table("", "class alone", "class and map", "ratio")
    for key, title in (("onnxruntime", "ours, ONNX Runtime"), ("gradcam_torch", "Grad-CAM, PyTorch")):
        if found[key]:
            student, both, ratio = (found[key][name] for name in ("student_ms", "both_ms", "ratio"))
            times.add_row(title, f"{student:.1f} ms", f"{both:.1f} ms", f"{ratio:.2f}")
    console.print(times)


if __name__ == "__main__":
    main()
