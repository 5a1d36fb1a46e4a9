"""One run and one export of it for all tests of this folder: both take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import run_kit

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.export import build


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_kit.write_photographs(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    return run_kit.write_run(tmp_path_factory.mktemp("work") / "runs" / "toy", photographs)


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that the command makes, fp16 included."""
    path = tmp_path_factory.mktemp("out") / "toy.medtex"
    assert main(["export", str(run), "--fp16", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def full(exported: Path) -> bytes:
    """The exported fp32 graph."""
    return Bundle.open(exported).model("fp32")


@pytest.fixture
def quick(full: bytes, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], None]:
    """Spare the seconds of PyTorch's exporter: `build` gets this graph (or the one it is called with)."""

    def use(content: bytes | None = None) -> None:
        monkeypatch.setattr(build, "to_onnx", lambda *_: content or full)

    use()
    return use
