"""What the tests of the backends share: a fake GPU, and a device without engines."""

from __future__ import annotations

from pathlib import Path

import engine_kit
import pytest
from fake_cuda import Gpu

from medtex_edge.bundle import Bundle


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(integrated=getattr(request, "param", True)).install(monkeypatch)


@pytest.fixture
def own_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a cache of engines of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(engine_kit.STARTS, str(tmp_path / "starts"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return engine_kit.bundle(tmp_path / "tiny.medtex")


@pytest.fixture
def messages() -> list[str]:
    return []
