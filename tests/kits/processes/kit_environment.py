"""The environment of a Python process that a test starts, with the kits on its path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parents[2]


def kit_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`base` with the folders of the kits and that of the GPU's tests first on `PYTHONPATH`."""
    kits = sorted(path for path in (TESTS / "kits").iterdir() if any(path.glob("*.py")))
    paths = [*map(str, kits), str(TESTS / "gpu"), base.get("PYTHONPATH", "")]
    return {**base, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
