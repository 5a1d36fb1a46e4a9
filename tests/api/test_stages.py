"""`medtex_edge.train`, `.export` and `.evaluate`: the commands' own options, results and errors."""

from __future__ import annotations

import inspect
import json
import pydoc
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import run_kit

import medtex_edge
from medtex_edge.api import stages
from medtex_edge.api.calling import TERMINAL_ONLY, arguments_of, call, option_name
from medtex_edge.cli import cli
from medtex_edge.errors import BundleError, MedtexError, SettingsError

STAGES = ("train", "export", "evaluate")


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", STAGES)
def test_a_function_has_its_commands_options_with_their_defaults(name: str) -> None:
    signature = inspect.signature(getattr(medtex_edge, name))
    given = {parameter.name: parameter.default for parameter in signature.parameters.values()}
    assert given.pop("quiet") is True
    with command(name).make_context(name, []) as context:
        defaults = {key: str(value) if isinstance(value, Path) else value for key, value in context.params.items()}
    parameters = [each for each in command(name).params if each.name not in TERMINAL_ONLY]
    assert given == {option_name(each): defaults[each.name or ""] for each in parameters}


@pytest.mark.parametrize("name", STAGES)
def test_a_value_for_every_parameter_reaches_the_command_under_its_name(name: str) -> None:
    values: dict[str, Any] = {}
    for each in command(name).params:
        if each.name in TERMINAL_ONLY:
            continue
        if isinstance(each.type, click.Choice):
            value: Any = each.type.choices[-1]
        elif isinstance(each, click.Option) and each.is_flag:
            value = True
        else:
            value = 0.5 if each.type.name.startswith("float") else 3 if each.type.name.startswith("integer") else "."
        several = getattr(each, "multiple", False)
        values[option_name(each)] = [value, value] if several else (0.5,) * 3 if each.nargs == 3 else value
    with command(name).make_context(name, list(arguments_of(command(name), values))) as context:
        got = context.params
    for each in command(name).params:
        if each.name not in TERMINAL_ONLY:
            value = values[option_name(each)]
            expected = tuple(value) if isinstance(value, list) else value
            came = got[each.name or ""]
            assert (str(came) if isinstance(came, Path) else came) == expected or str(came[0]) == expected[0], each.name


def test_what_is_off_or_a_mapping_is_written_as_the_command_line_wants_it() -> None:
    values = {"compile": False, "weight": {"mid": 0.5, "tv": 0}, "class_weights": "-1", "teacher_mean": (-0.1, 0, 1)}
    arguments = arguments_of(command("train"), values)
    with command("train").make_context("train", list(arguments)) as context:
        assert context.params["compiled"] is False
        assert context.params["weights"] == ("mid=0.5", "tv=0")
        assert context.params["class_weights"] == "-1"
        assert context.params["teacher_mean"] == (-0.1, 0, 1)
    assert arguments_of(command("train"), {"compile": None, "seed": 0, "label_column": "label"}) == ()


def test_a_stage_is_a_function_and_a_package_in_any_order_of_import() -> None:
    import medtex_edge.train.config

    assert callable(medtex_edge.train)
    assert medtex_edge.train is sys.modules["medtex_edge.train"]
    assert inspect.signature(medtex_edge.train) == inspect.signature(stages.train)


@pytest.mark.parametrize("name", ["evaluate", "export", "train"])
def test_help_shows_the_call(name: str) -> None:
    shown = pydoc.plain(pydoc.render_doc(getattr(medtex_edge, name)))
    assert (getattr(stages, name).__doc__ or "").splitlines()[0] in shown
    assert f"medtex_edge.{name}(" in shown
    assert all(f"{parameter}:" in shown for parameter in inspect.signature(getattr(stages, name)).parameters)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("train", {"method": "magic"}), ("train", {"val_fraction": 2}), ("train", {"masks": "/nowhere/at/all"}),
        ("train", {"weight": "mid=1"}), ("train", {"epochs": "many"}), ("train", {"data": "/nowhere/at/all"}),
        ("export", {"run": "/nowhere/at/all"}), ("export", {"out": "name.zip", "run": "x"}),
        ("evaluate", {"split": "some"}), ("evaluate", {"subject": "/nowhere/at/all"}),
    ],
)  # fmt: skip
def test_a_mistake_is_an_error_of_the_package_and_prints_nothing(
    name: str, values: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MedtexError) as failure:
        getattr(medtex_edge, name)(**values)
    assert failure.value.message
    assert capfd.readouterr() == ("", "")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("medtex_edge.train.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match=r"medtex-edge\[train\]") as failure:
        medtex_edge.train()
    assert "torch" in failure.value.hint


def test_what_is_no_mistake_of_the_user_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(**_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command("export"), "callback", body)
    with pytest.raises(ZeroDivisionError):
        call("export", {}, quiet=True)


def test_settings_of_the_folder_are_for_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("medtex.toml").write_text('[export]\nrun = "from-settings"\n')
    monkeypatch.setattr(command("export"), "callback", lambda **values: values)
    assert call("export", {}, quiet=True)["run"] is None


@pytest.mark.slow
def test_a_run_becomes_a_bundle_that_reads_without_a_line_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs = run_kit.write_photographs(tmp_path / "photographs")
    run = run_kit.write_run(tmp_path / "mine", photographs)
    capfd.readouterr()
    result = medtex_edge.export(run, out="eye.medtex")
    assert capfd.readouterr().out == ""
    assert result.bundle == Path("eye.medtex")
    assert result.report["metrics"]["student"]["auc_referable"] == 0.91
    assert "medtex-edge export --out=eye.medtex -- " in json.dumps(result.report["provenance"])
    with medtex_edge.open_bundle(result.bundle) as bundle:
        assert bundle.read(photographs / "images" / "004.png").size == (128, 128)
    with pytest.raises(BundleError):
        medtex_edge.evaluate("nowhere.medtex")
