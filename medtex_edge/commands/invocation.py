"""Who runs a command: the terminal, or a program through `medtex_edge.train`, `.export` and `.evaluate`.

A program's call leaves its `Invocation` in the click context. Commands ask here for the line that repeats the run,
and whether they may print.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

import click

_KEY = "medtex_edge.invocation"


@dataclass(frozen=True)
class Invocation:
    """A call by a program: the command line that does the same, and whether nothing may be printed."""

    arguments: tuple[str, ...]
    quiet: bool

    def attach(self, context: click.Context) -> None:
        """Let the command that runs in `context` find this."""
        context.meta[_KEY] = self


def command_line() -> str:
    """The command line of the running command, which its results record."""
    program = _program()
    return "medtex-edge " + shlex.join(sys.argv[1:] if program is None else program.arguments)


def quiet() -> bool:
    """Whether the running command may print nothing."""
    program = _program()
    return program is not None and program.quiet


def _program() -> Invocation | None:
    context = click.get_current_context(silent=True)
    found = None if context is None else context.meta.get(_KEY)
    return found if isinstance(found, Invocation) else None
