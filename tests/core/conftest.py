"""What the tests of the core share."""

from __future__ import annotations

import pytest
from bundle_kit import write_toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small whole bundle, as bytes."""
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.medtex").read_bytes()
