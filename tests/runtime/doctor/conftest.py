"""What the tests of the doctor share: captured boards, and a CUDA driver that answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jetson_kit import Board

from medtex_edge.runtime.doctor import gpu


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Board]:
    return lambda name: Board(tmp_path / name, name)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "cuda_devices", lambda: "12.6: Orin (SM 8.7)")
