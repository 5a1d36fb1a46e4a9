"""The reference: its tables have every field, reason and exit code of the code, and no other."""

from __future__ import annotations

import datetime
import inspect
import re
import runpy
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import bundles
import click
import numpy as np
import pytest

from medtex_edge import errors
from medtex_edge.cli import cli
from medtex_edge.contract import Contract, OperatingPoint
from medtex_edge.runtime.reading import Reading, Reason, Verdict

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def names(page: str, heading: str) -> set[str]:
    """The names in the first column of the tables below a heading, up to the next one."""
    text = (REFERENCE / page).read_text("utf-8").split(f"\n{heading}\n")[1]
    rows = re.findall(r"^\| (`[^|]+) \|", re.split(r"^#", text, flags=re.MULTILINE)[0], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_reference_of_readings_has_every_field() -> None:
    share = np.full(len(bundles.CLASSES), 1 / len(bundles.CLASSES), np.float32)
    now = datetime.datetime.now(datetime.timezone.utc)
    reading = Reading("camera 0", 0, now, 1.0, (8, 8), Verdict.REFERABLE, label="a", probabilities=share)
    assert names("readings.md", "## Fields") == set(reading.to_json(bundles.contract(), "0" * 64))


def test_the_reference_of_readings_has_every_reason() -> None:
    assert names("readings.md", "## Reasons") == {reason.value for reason in Reason}


def test_the_reference_of_bundles_has_every_field_of_the_contract() -> None:
    assert names("bundle.md", "## `contract.json`") == {field.name for field in fields(Contract)}
    text = (REFERENCE / "bundle.md").read_text("utf-8")
    for name in {field.name for field in fields(OperatingPoint)}:
        assert name.removesuffix("_interval") in text, name


@pytest.mark.parametrize("error", [e for e in vars(errors).values() if isinstance(e, type)], ids=lambda e: e.__name__)
def test_the_reference_has_the_exit_code_of_every_error(error: type[errors.MedtexError]) -> None:
    text = (REFERENCE / "configuration.md").read_text("utf-8")
    codes = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    named = next(base for base in error.__mro__ if base.__name__ in codes)
    assert codes[named.__name__] == error.exit_code


def test_every_command_has_an_example_that_its_page_shows_as_code() -> None:
    hooks = runpy.run_path(str(REFERENCE.parent / "hooks.py"))
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/cli.md"))
    stack: list[tuple[str, click.Command]] = [("medtex-edge", cli)]
    while stack:
        name, command = stack.pop()
        if isinstance(command, click.Group):
            stack += [(f"{name} {child}", found) for child, found in command.commands.items()]
        paragraphs = inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n")
        shown = [hooks["on_page_content"](f"<p>{paragraph}</p>", page=page) for paragraph in paragraphs]
        assert any(block.startswith(f"<pre><code>{name}") for block in shown), name
