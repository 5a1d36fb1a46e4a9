"""The environment of a Python process that a test starts, with the kits on its path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

KITS = Path(__file__).parent


def kit_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`base` with the folder of the kits and that of the GPU's first on `PYTHONPATH`."""
    paths = [str(KITS), str(KITS.parent / "gpu"), base.get("PYTHONPATH", "")]
    return {**base, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
