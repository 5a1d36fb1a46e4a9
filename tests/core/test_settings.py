"""medtex.toml, and which run or bundle is the newest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtex_edge.errors import SettingsError
from medtex_edge.settings import RUN_FILES, newest_bundle, newest_run, option_defaults, read_settings

COMMANDS = ["train", "train-teacher", "run"]


@click.command()
@click.argument("bundle", required=False)
@click.option("--label-column")
@click.option("--epochs", type=int)
@click.option("--fp16/--no-fp16")
@click.option("--accept", multiple=True)
@click.option("--mean", type=float, nargs=3)
def command(**_: Any) -> None:
    """Every kind of option that our commands have."""


def defaults(table: dict[str, Any]) -> dict[str, Any]:
    return option_defaults(command, table, "medtex.toml [train]")


def test_a_folder_without_a_settings_file_sets_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path, COMMANDS) == {}


def test_a_byte_order_mark_before_the_first_table_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "medtex.toml").write_bytes("\ufeff[train]\nepochs = 3\n".encode())
    assert read_settings(tmp_path, COMMANDS) == {"train": {"epochs": 3}}


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"[trian]\n", "no command [trian]", "'train'"),
        (b"epochs = 3\n", "epochs stands outside of a table", "[train]"),
        (b"[train\n", "is not TOML", "a line is written as"),
        (b"[train]\nx = '\xff'\n", "cannot read", "UTF-8"),
    ],
)
def test_a_settings_file_that_cannot_be_meant_is_refused_with_the_next_step(
    tmp_path: Path, content: bytes, message: str, hint: str
) -> None:
    (tmp_path / "medtex.toml").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path, COMMANDS)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_folder_named_like_the_settings_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "medtex.toml").mkdir()
    with pytest.raises(SettingsError, match="cannot read"):
        read_settings(tmp_path, COMMANDS)


def test_dashes_and_underscores_mean_the_same_option() -> None:
    assert defaults({"label-column": "grade"}) == defaults({"label_column": "grade"}) == {"label_column": "grade"}


def test_the_same_option_in_both_spellings_is_refused() -> None:
    with pytest.raises(SettingsError, match="given twice"):
        defaults({"label-column": "grade", "label_column": "dme"})


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(SettingsError, match="no option 'epcohs'") as caught:
        defaults({"epcohs": 3})
    assert caught.value.hint == "did you mean 'epochs'?"


def test_arguments_lists_and_switches_can_have_defaults_too() -> None:
    table = {"bundle": "a.medtex", "accept": "missing", "mean": [0.5, 0.5, 0.5], "fp16": True}
    assert defaults(table) == {"bundle": "a.medtex", "accept": ["missing"], "mean": ["0.5"] * 3, "fp16": True}


@pytest.mark.parametrize(
    "table", [{"epochs": [1]}, {"epochs": True}, {"fp16": 1}, {"fp16": "yes"}, {"epochs": {"a": 1}}, {"help": True}]
)
def test_a_value_of_a_kind_that_the_option_does_not_take_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        defaults(table)


@given(st.dictionaries(st.text(max_size=12), st.none() | st.booleans() | st.integers() | st.text(max_size=5)))
def test_no_table_gets_past_as_anything_but_known_options_or_a_settings_error(table: dict[str, Any]) -> None:
    known = {parameter.name for parameter in command.params}
    try:
        found = set(defaults(table))
    except SettingsError:
        return
    assert found <= known


def make_run(folder: Path, age_s: int, files: tuple[str, ...] = RUN_FILES) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_bytes(b"{}")
        os.utime(folder / name, (1_000_000 - age_s, 1_000_000 - age_s))
    return folder


def test_the_newest_run_is_the_one_finished_last_and_unfinished_ones_do_not_count(tmp_path: Path) -> None:
    make_run(tmp_path / "b", age_s=10)
    newest = make_run(tmp_path / "a", age_s=5)
    make_run(tmp_path / "c", age_s=0, files=("student.safetensors", "explainer.safetensors"))
    make_run(tmp_path / "teacher", age_s=0, files=("model.json", "teacher.safetensors"))
    assert newest_run(tmp_path) == newest


def test_the_newest_bundle_is_the_file_written_last(tmp_path: Path) -> None:
    for name, age_s in (("old.medtex", 9), ("new.medtex", 1), (".half.medtex", 0)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1_000_000 - age_s, 1_000_000 - age_s))
    (tmp_path / "folder.medtex").mkdir()
    assert newest_bundle(tmp_path) == tmp_path / "new.medtex"


def test_where_there_is_no_run_or_bundle_the_error_states_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as run:
        newest_run()
    with pytest.raises(SettingsError) as bundle:
        newest_bundle()
    assert "medtex-edge train" in run.value.hint
    assert "medtex-edge export" in bundle.value.hint
