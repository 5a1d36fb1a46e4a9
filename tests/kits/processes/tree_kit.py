"""A copy of the project to build from, so that nothing is left in the tree and no earlier build is found."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[3]
STAGES = ("train", "export", "evaluate", "runtime")
PARTS = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "medtex_edge", *STAGES)


def copy_tree(into: Path) -> Path:
    """What a build needs, copied to the new folder `into`; returns that."""
    into.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, into / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, into / name)
    return into
