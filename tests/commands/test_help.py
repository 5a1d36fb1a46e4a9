"""The help of every command: an example to copy, and the option that prints the results for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from medtex_edge.cli import COMMANDS, cli, main


def commands() -> Iterator[tuple[str, ...]]:
    """Every command's words, those of a group's commands included."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.list_commands(context))
        else:
            yield (name,)


ALL = pytest.mark.parametrize("words", list(commands()), ids=" ".join)


def shown_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@ALL
def test_the_help_of_every_command_has_an_example_of_it(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    call = re.escape(" ".join(("medtex-edge", *words)))
    assert re.search(rf"^ +{call}\b(?!-)", shown_help(words, capsys), re.MULTILINE)


@ALL
def test_every_command_can_print_its_results_as_json(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(r"^ +--json\b", shown_help(words, capsys), re.MULTILINE)
