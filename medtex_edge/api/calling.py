"""Run a command as a function: the same parsing, checks and defaults; it returns a result and raises `MedtexError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from medtex_edge.cli import COMMANDS, DISTRIBUTION, cli, missing_package, storage_error
from medtex_edge.commands.invocation import Invocation
from medtex_edge.errors import MedtexError, SettingsError, StorageError
from medtex_edge.settings import option_names

TERMINAL_ONLY = ("as_json",)  # a function returns what the command would print


def option_name(parameter: click.Parameter) -> str:
    """What a function calls a command's parameter: the option without its dashes."""
    return option_names(parameter)[0].replace("-", "_")


def call(name: str, values: Mapping[str, Any], *, quiet: bool) -> Any:
    """Run the command `name` with `values` by option name; None, False and () stand for the command's own default.

    Raises `MedtexError`: what the command raises, and `SettingsError` where an option's value is refused or a package
    of an extra is missing. `medtex.toml` is for the command line and not read.
    """
    try:
        command = cli.get_command(click.Context(cli), name)
        if command is None:
            raise SettingsError(f"there is no command {name!r}", hint=f"known are: {', '.join(COMMANDS)}")
        arguments = arguments_of(command, values)
        with command.make_context(name, list(arguments)) as context:
            Invocation((name, *arguments), quiet).attach(context)
            return command.invoke(context)
    except click.ClickException as error:
        raise SettingsError(f"{name}: {error.format_message()}", hint=f"see help(medtex_edge.{name})") from error
    except MedtexError:
        raise
    except ImportError as error:
        message, hint = missing_package(error, [name])
        if not message:
            raise
        raise SettingsError(message, hint=hint) from error
    except OSError as error:
        problem = storage_error(error)
        raise StorageError(f"{DISTRIBUTION}: {problem.message}", hint=problem.hint) from error


def arguments_of(command: click.Command, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The command line that gives `values`, by option name."""
    options: list[str] = []
    positional: list[str] = []
    for parameter in command.params:
        value = values.get(option_name(parameter))
        if parameter.name in TERMINAL_ONLY or _is_default(parameter, value):
            continue
        option = next((each for each in parameter.opts if each.startswith("--")), "")
        many = isinstance(parameter, click.Option) and parameter.multiple
        if isinstance(parameter, click.Argument):
            positional += ["--", str(value)]
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            options.append(option if value else parameter.secondary_opts[0])
        elif many:
            options += [f"{option}={each}" for each in _several(option, value)]
        elif parameter.nargs > 1:
            options += [option, *(str(each) for each in _several(option, value))]
        else:
            options.append(f"{option}={value}")
    return (*options, *positional)


def _is_default(parameter: click.Parameter, value: Any) -> bool:
    if value is None or value == () or str(value) == str(parameter.default):
        return True
    return value is False and not parameter.secondary_opts  # a switch without an option that turns it off


def _several(option: str, value: Any) -> list[str]:
    """The values of an option that can be repeated: a sequence, or a mapping of NAME to number."""
    if isinstance(value, Mapping):
        return [f"{name}={number}" for name, number in value.items()]
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise SettingsError(f"{option}: expected a list of values, got {value!r}", hint=f"write [{value!r}]")
    return [str(each) for each in value]
