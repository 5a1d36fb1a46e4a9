"""`medtex.toml` in the working folder sets defaults for every command; and which run or bundle is the newest.

One table per command, one key per option, with `-` or `_`:

    [train]
    data = "photographs"
    label-column = "grade"
    joint-epochs = 8

    [run]
    camera = "/dev/video2"

The command line wins over the file. An unknown table or key is an error, since a typing mistake that is
ignored would train something other than what was requested.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SettingsError

if TYPE_CHECKING:
    import click

SETTINGS_FILE = "medtex.toml"
RUN_FILES = ("model.json", "student.safetensors", "explainer.safetensors")


def read_settings(folder: Path, commands: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The tables of `folder`/medtex.toml by command name, empty where there is no file.

    Raises `SettingsError` where the file cannot be read, is no TOML, or has a table of no command. The keys
    are checked by `option_defaults`, which needs the command and hence its import.
    """
    path = folder / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}", hint="it has to be a text file in UTF-8") from error
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{path} is not TOML: {error}", hint='a line is written as  epochs = 10  or  data = "photos"'
        ) from error
    known = list(commands)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(
                f"{path}: {name} stands outside of a table",
                hint=f"put it under the command it is for, such as [{known[0]}]",
            )
        if name not in known:
            raise SettingsError(f"{path}: there is no command [{name}]", hint=nearest(name, known))
    return tables


def option_defaults(command: click.Command, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Turn one table into a `default_map` for `command`, whose own types then check the values.

    Returns values by parameter name. Raises `SettingsError` for a key of no option (naming the nearest one),
    for a key given twice, and for a value of a kind that no option takes. `where` opens each message.
    """
    parameters = {name: parameter for parameter in command.params for name in option_names(parameter)}
    found: dict[str, Any] = {}
    for key, value in table.items():
        parameter = parameters.get(key.replace("_", "-"))
        if parameter is None or parameter.name is None:
            raise SettingsError(
                f"{where}: there is no option {key!r}",
                hint=nearest(key.replace("_", "-"), sorted(parameters)),
            )
        if parameter.name in found:
            raise SettingsError(f"{where}: {key} is given twice", hint="keep one of the lines")
        found[parameter.name] = _value(parameter, value, f"{where}: {key}")
    return found


def option_names(parameter: click.Parameter) -> list[str]:
    """What `medtex.toml` may call a parameter: its long options and its own name, with dashes."""
    names = [option.lstrip("-") for option in parameter.opts if option.startswith("--")]
    if parameter.param_type_name == "argument" and parameter.name:
        names.append(parameter.name.replace("_", "-"))
    return [name for name in names if name not in ("help", "version")]


def _value(parameter: click.Parameter, value: Any, where: str) -> Any:
    many = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    if isinstance(value, list):
        if not many:
            raise SettingsError(f"{where}: expected one value, got a list", hint="write the value without brackets")
        return [_scalar(parameter, item, where) for item in value]
    scalar = _scalar(parameter, value, where)
    return [scalar] if many else scalar


def _scalar(parameter: click.Parameter, value: Any, where: str) -> Any:
    is_flag = bool(getattr(parameter, "is_flag", False))
    if isinstance(value, bool):
        if is_flag:
            return value
        raise SettingsError(
            f"{where}: expected a value, got {str(value).lower()}", hint="true and false are for switches"
        )
    if is_flag:
        raise SettingsError(f"{where}: expected true or false, got {value!r}", hint=f"{parameter.opts[0]} is a switch")
    if isinstance(value, dict):
        raise SettingsError(f"{where}: expected a value, got a table", hint="a command's options are plain keys")
    # As text, so that click checks it as if it had been typed: its integers would swallow 2.7 as 2.
    return str(value)


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint: the known word that was probably meant, or all of them."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"


def newest_run(folder: Path | None = None) -> Path:
    """The run in `folder` (default: ./runs) that was finished last. Raises `SettingsError`: none there."""
    folder = folder or Path.cwd() / "runs"
    runs = [
        path.parent
        for path in folder.glob(f"*/{RUN_FILES[0]}")
        if all((path.parent / name).is_file() for name in RUN_FILES)
    ]
    if not runs:
        raise SettingsError(
            f"no finished run in {folder}", hint="make one by `medtex-edge train`, or name a run folder"
        )
    return max(runs, key=lambda run: ((run / RUN_FILES[0]).stat().st_mtime_ns, run.name))


def newest_bundle(folder: Path | None = None) -> Path:
    """The `.medtex` file in `folder` (default: here) written last. Raises `SettingsError`: none there."""
    folder = folder or Path.cwd()
    bundles = [path for path in folder.glob("*.medtex") if path.is_file() and not path.name.startswith(".")]
    if not bundles:
        raise SettingsError(
            f"no bundle (*.medtex) in {folder}", hint="make one by `medtex-edge export`, or name the file"
        )
    return max(bundles, key=lambda path: (path.stat().st_mtime_ns, path.name))
