"""`medtex-edge doctor`: what this machine can do, and how to get what is missing."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def doctor(as_json: bool) -> int:
    """Check what this machine can do and what is missing, with the next command to type (after the arrow).

    \b
    medtex-edge doctor
    medtex-edge doctor --json

    Exit codes: 0 a bundle can be run here, 1 it cannot.
    """
    import json

    from rich.console import Console
    from rich.text import Text

    from medtex_edge import __version__
    from medtex_edge.runtime.doctor.machine import can_run, run_checks

    checks = run_checks()
    able = can_run(checks)
    if as_json:
        value = {
            "version": __version__,
            "can_run": able,
            "findings": [check.to_json() for check in checks],
        }
        click.echo(json.dumps(value, indent=2))
        return 0 if able else 1
    console = Console(highlight=False, soft_wrap=True)
    section = ""
    for check in checks:
        if check.section != section:
            section = check.section
            console.print(Text(f"\n{section}", style="bold"))
        mark, style = ("ok", "green") if check.present else ("missing", "red" if check.required else "yellow")
        line = Text.assemble((f"  {mark:<8}", style), f"{check.name:<17} {check.value}")
        next_step = check.advice if check.present else check.cure
        if next_step:
            line.append(f"\n{'':10}-> {next_step}", style="dim")
        console.print(line)
    end = "A bundle can be run here: medtex-edge run BUNDLE --camera" if able else "A bundle cannot be run here yet."
    console.print(Text(f"\n{end}", style="bold"))
    return 0 if able else 1
