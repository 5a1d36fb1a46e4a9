"""How long a user waits, and how much memory it takes: an import, `--help`, the first reading of `run`, its memory.

    python -m benchmarks.start eye.medtex

Each command is started as a process of its own, with files that the system still has in memory. `--imports` lists
the modules that are loaded before the first reading, with the time of each.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
from rich.console import Console
from rich.table import Table

from medtex_edge.bundle import Bundle
from medtex_edge.errors import MedtexError
from medtex_edge.runtime.bench.bench import SIZE, Ring, golden_stills

LIMITS = {"import_ms": 30.0, "help_s": 0.2, "first_reading_s": 1.2, "resident_mb": 250.0}
TITLES = {
    "import_ms": "`import medtex_edge`, milliseconds beyond Python's own start",
    "help_s": "`medtex-edge --help`, seconds",
    "first_reading_s": "`medtex-edge run` to its first reading, seconds",
    "resident_mb": "resident memory of `medtex-edge run`, at most, MB",
}
_COMMAND = [sys.executable, "-m", "medtex_edge"]
_FRAMES = 100


def import_ms() -> float:
    """Milliseconds that `import medtex_edge` adds to the start and end of an interpreter that imports nothing."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return (seconds("import medtex_edge") - seconds("pass")) * 1e3


def help_s() -> float:
    """Seconds from the start of the process to its end."""
    began = time.perf_counter()
    subprocess.run([*_COMMAND, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def first_reading_s(bundle: Path, photo: Path) -> float:
    """Seconds from the start of the process to the first line that names a reading."""
    command = [*_COMMAND, "run", str(bundle), "--source", str(photo), "--no-display"]
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - began
        process.stdout.read()
    if not line.startswith((b"referable", b"not referable")):
        raise click.ClickException(f"expected a reading, got {line.decode(errors='replace').strip() or 'nothing'}")
    return taken


def resident_mb(bundle: Path, video: Path) -> float:
    """The most memory that the run had in RAM, megabytes: the kernel's own high-water mark, read until it ends."""
    command = [*_COMMAND, "run", str(bundle), "--source", str(video), "--no-display", "--json"]
    highest = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"), re.MULTILINE)
            highest = max(highest, int(found[1]) if found else 0)
            time.sleep(0.01)
    if process.returncode:
        raise click.ClickException(f"`medtex-edge run` ended with {process.returncode}")
    return highest * 1024 / 1e6


def imports(bundle: Path, photo: Path, most: int = 12) -> list[tuple[str, float]]:
    """The modules that take longest to import before the first reading: milliseconds, their own imports included."""
    command = [sys.executable, "-X", "importtime", *_COMMAND[1:], "run", str(bundle), "--source", str(photo)]
    done = subprocess.run([*command, "--no-display"], capture_output=True, text=True, check=True)
    rows = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \| (\s*)(\S+)$", done.stderr, re.MULTILINE)
    costs = [(name, int(total) / 1e3) for total, indent, name in rows if len(indent) <= 4]
    return sorted(costs, key=lambda row: -row[1])[:most]


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(1), help="Of each; the median counts.")
@click.option("--imports", "with_imports", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def main(bundle: Path, repeats: int, with_imports: bool, as_json: bool) -> None:
    try:
        stills = golden_stills(Bundle.open(bundle))
    except MedtexError as error:
        raise click.ClickException(error.message) from error
    with tempfile.TemporaryDirectory() as folder:
        frames = Ring(stills, SIZE, "bgr", whole=False).frames
        photo, video = Path(folder) / "eye.png", Path(folder) / "eye.avi"
        cv2.imwrite(str(photo), frames[0])
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE)
        for index in range(_FRAMES):
            writer.write(frames[index % len(frames)])
        writer.release()
        help_s(), first_reading_s(bundle, photo)  # from here on the disk is warm
        found = {
            "import_ms": [import_ms() for _ in range(repeats)],
            "help_s": [help_s() for _ in range(repeats)],
            "first_reading_s": [first_reading_s(bundle, photo) for _ in range(repeats)],
            "resident_mb": [resident_mb(bundle, video)],
        }
        costs = imports(bundle, photo) if with_imports else []
    if as_json:
        rows = {
            name: {"limit": LIMITS[name], "median": statistics.median(values), "best": min(values)}
            for name, values in found.items()
        }
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("what", "limit", "median", "best")
    for name, values in found.items():
        mark = "[green]met[/]" if statistics.median(values) <= LIMITS[name] else "[red]not met[/]"
        median = f"{statistics.median(values):.3g} {mark}"
        table.add_row(TITLES[name], f"<= {LIMITS[name]:g}", median, f"{min(values):.3g}")
    Console().print(table)
    if costs:
        table = Table("import", "ms", title="with everything that it imports", title_justify="left")
        for name, milliseconds in costs:
            table.add_row(name, f"{milliseconds:.0f}")
        Console().print(table)


if __name__ == "__main__":
    main()
