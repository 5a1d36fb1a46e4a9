"""The demo's frame: what it runs, what it keeps, how it ends. The commands themselves have tests of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medtex_edge import __version__
from medtex_edge.cli import COMMANDS, main
from medtex_edge.commands import demo
from medtex_edge.commands.demo import FIGURES, OWN_DATA, PIPELINE, PRODUCT_KEYS, PRODUCTS, DemoCommand


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo folder whose photographs are there already, and steps that take no time."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "demo"
    (out / "photographs").mkdir(parents=True)
    for name in ("photographs/labels.csv", "video.mp4"):
        (out / name).write_bytes(b"")
    monkeypatch.setattr(demo, "PIPELINE", (DemoCommand("version", "", ("--version",)),))
    return out


def write_products(out: Path) -> None:
    """Write every result of the demo as an empty folder or file."""
    for name in [name for _, name, _ in PRODUCTS] + [c.product for c in PIPELINE if c.product]:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True) if name.endswith("/") else path.write_bytes(b"")


def test_every_demo_command_and_every_line_of_advice_names_a_command_that_exists() -> None:
    assert {command.arguments[0] for command in PIPELINE} <= set(COMMANDS)
    assert {line.split()[1] for line in OWN_DATA} <= set(COMMANDS)


def test_it_ends_with_the_place_of_each_result_and_the_commands_for_own_photographs(
    drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_products(drawn)
    assert main(["demo"]) == 0
    shown = capsys.readouterr().out
    for title, name, _ in PRODUCTS:
        assert title in shown
        assert name.rstrip("/") in shown
    for line in OWN_DATA:
        assert line in shown


def test_with_json_the_only_output_is_one_object_of_paths_and_figures(
    drawn: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_products(drawn)
    for name, path in FIGURES.items():
        (drawn / path).write_text(json.dumps({"name": name}))
    assert main(["demo", "--json"]) == 0
    captured = capfd.readouterr()
    found = json.loads(captured.out)
    assert {"teacher", "student", "bundle", "video", "report"} <= set(PRODUCT_KEYS) <= set(found)
    assert all(Path(found[key]).exists() for key in PRODUCT_KEYS)
    assert found["metrics"] == {"name": "metrics"}
    assert found["evaluation"] == {"name": "evaluation"}
    assert found["seconds"] >= 0
    assert "medtex-edge --version" in captured.err, "the commands are shown"
    assert f"medtex-edge {__version__}\n" in captured.err, "and what they print"


def test_with_json_figures_that_cannot_be_read_are_an_error(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_products(drawn)
    assert main(["demo", "--json"]) == 9
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "metrics.json" in captured.err


def test_the_object_of_json_names_every_product() -> None:
    assert list(PRODUCT_KEYS.values()) == [name.rstrip("/") for _, name, _ in PRODUCTS]


def test_a_part_that_is_finished_is_kept(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PIPELINE", (DemoCommand("would fail", "video.mp4", ("no-such-command",)),))
    monkeypatch.setattr(demo, "PRODUCTS", ())
    assert main(["demo"]) == 0
    assert "kept from an earlier demo: demo/video.mp4" in capsys.readouterr().out


def test_a_command_that_fails_ends_the_demo_with_its_own_exit_code(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PIPELINE", (DemoCommand("fails", "x", ("verify", "not-there.medtex")),))
    assert main(["demo"]) == 3
    shown = capfd.readouterr().err
    assert "medtex-edge verify not-there.medtex ended with exit code 3" in shown


def test_something_that_is_missing_in_the_end_is_an_error(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 9
    assert "lacks" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_an_error_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a file of that name")
    assert main(["demo", "--out", "file/demo"]) == 9
    assert "hint" in capsys.readouterr().err
