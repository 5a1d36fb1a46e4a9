"""The command line: what it prints, what it returns, and that it never shows a traceback for a user's mistake."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from medtex_edge import __version__, errors
from medtex_edge.cli import COMMANDS, main


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[int], Any]], None]:
    """Replace the demo command by one with an option --epochs that calls the given function."""
    monkeypatch.chdir(tmp_path)

    def install(body: Callable[[int], Any]) -> None:
        module = ModuleType("medtex_edge.commands.demo")
        command = click.command("demo")(click.option("--epochs", type=int, default=1)(lambda epochs: body(epochs)))
        module.demo = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "medtex_edge.commands.demo", module)

    return install


def raiser(error: BaseException) -> Callable[[int], Any]:
    def body(_: int) -> None:
        raise error

    return body


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, lazy in COMMANDS.items():
        assert f"{name} " in shown
        assert lazy.help in shown


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"medtex-edge {__version__}\n"


def test_help_answers_at_once() -> None:
    """What takes time is what is loaded: help waits for nothing but click."""
    program = (
        "import sys\n"
        "from medtex_edge.cli import main\n"
        "main(['--help'])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stderr.split()) - set(sys.stdlib_module_names)
    heavy = {"numpy", "cv2", "torch", "torchvision", "timm", "kornia", "onnx", "onnxruntime", "matplotlib", "rich"}
    assert "click" in loaded
    assert not loaded & heavy


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_is_listed_can_be_loaded_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: medtex-edge {name}")
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'trian'\n  hint: did you mean 'train'?\n"


def test_a_mistyped_option_is_a_message_that_names_the_help(
    demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(lambda epochs: None)
    assert main(["demo", "--epochs", "many"]) == 2
    shown = capsys.readouterr().err
    assert "'many' is not a valid integer" in shown
    assert "medtex-edge demo --help" in shown


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MedtexError)],
)
def test_each_kind_of_error_is_a_message_a_hint_and_its_own_exit_code(
    kind: type[errors.MedtexError], demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(raiser(kind("expected this, got that", hint="do this")))
    assert main(["demo"]) == kind.exit_code
    assert capsys.readouterr().err == "error: expected this, got that\n  hint: do this\n"


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(
    demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(raiser(errors.DataError("cannot read \x1b[31mred\x1b[0m.png")))
    main(["demo"])
    assert "\x1b" not in capsys.readouterr().err


def test_the_debug_variable_shows_where_an_error_came_from(
    demo: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTEX_EDGE_DEBUG", "1")
    demo(raiser(errors.DataError("bad")))
    assert main(["demo"]) == errors.DataError.exit_code
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_is_130_without_a_traceback(
    demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(raiser(KeyboardInterrupt()))
    assert main(["demo"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("module", ["torch", "timm", "sklearn", "kornia", "matplotlib"])
def test_a_missing_training_package_names_the_extra_that_brings_it(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    training = ModuleType("medtex_edge.commands.train")
    training.train = click.command("train")(  # type: ignore[attr-defined]
        lambda: raiser(ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.nn"))(0)
    )
    monkeypatch.setitem(sys.modules, "medtex_edge.commands.train", training)
    assert main(["train"]) == 2
    assert "error: training needs the extra: pip install 'medtex-edge[train]'" in capsys.readouterr().err


def test_a_module_of_our_own_that_is_missing_is_a_bug_and_shows_itself(demo: Callable[..., None]) -> None:
    demo(raiser(ModuleNotFoundError("No module named 'medtex_edge.gone'", name="medtex_edge.gone")))
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


def test_a_missing_system_library_names_its_package(
    demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(raiser(ImportError("libGL.so.1: cannot open shared object file: No such file or directory")))
    assert main(["demo"]) == 2
    assert "apt-get install libgl1" in capsys.readouterr().err


def test_a_full_disk_that_nobody_caught_is_still_a_message(
    demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(raiser(OSError(errno.ENOSPC, "No space left on device", "out.csv")))
    assert main(["demo"]) == errors.StorageError.exit_code
    assert "out.csv: No space left on device" in capsys.readouterr().err


def test_the_settings_file_sets_defaults_and_the_command_line_wins(demo: Callable[..., None]) -> None:
    epochs: list[int] = []
    demo(epochs.append)
    Path("medtex.toml").write_text("[demo]\nepochs = 7\n[train]\nwhatever-is-unknown = 1\n")
    assert main(["demo"]) == 0
    assert main(["demo", "--epochs", "9"]) == 0
    assert epochs == [7, 9]


@pytest.mark.parametrize("value", ["2.7", '"many"', "true", "[1, 2]"])
def test_a_value_in_the_settings_file_passes_the_options_own_check(
    value: str, demo: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(lambda epochs: pytest.fail(f"ran with {epochs}"))
    Path("medtex.toml").write_text(f"[demo]\nepochs = {value}\n")
    assert main(["demo"]) == 2
    assert "epochs" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    code = "import sys; sys.argv = ['x', '--help']; from medtex_edge.cli import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, shown = process.communicate(timeout=30)
    assert b"Traceback" not in shown
