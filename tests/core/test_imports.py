"""Which modules may import what: a device has no torch, and a help text needs no numpy."""

from __future__ import annotations

from pathlib import Path

import pytest
from import_kit import HEAVY, loaded_by

import medtex_edge

PACKAGE = Path(medtex_edge.__file__).parent
# Modules that a machine without training extras has to be able to import.
LIGHT = sorted(
    ".".join(("medtex_edge", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for folder in (PACKAGE, PACKAGE / "commands", PACKAGE / "runtime")
    for path in (folder.rglob("*.py") if folder.name == "runtime" else folder.glob("*.py"))
    if path.name != "__main__.py"
)


def test_the_runtime_the_core_and_the_commands_import_nothing_heavy() -> None:
    assert "medtex_edge.runtime" in LIGHT
    assert "medtex_edge.bundle" in LIGHT
    # Those of the backend of TensorRT too: it imports that, and pycuda, when it opens an engine.
    assert {"medtex_edge.runtime.backend.tensorrt.runner", "medtex_edge.runtime.backend.tensorrt.cuda"} <= set(LIGHT)
    loaded = loaded_by("\n".join(f"import {name}" for name in LIGHT))
    assert not HEAVY & loaded
    assert not {name for name in loaded if name.startswith(("medtex_edge.train.", "medtex_edge.export."))}


@pytest.mark.parametrize("module", ["medtex_edge", "medtex_edge.cli", "medtex_edge.contract", "medtex_edge.runtime"])
def test_a_module_alone_imports_nothing_heavy(module: str) -> None:
    assert not HEAVY & loaded_by(f"import {module}")


def test_the_help_imports_neither_opencv_nor_numpy_nor_an_engine() -> None:
    loaded = loaded_by("from medtex_edge.cli import main\nmain(['--help'])")
    assert not (HEAVY | {"cv2", "numpy", "onnxruntime", "rich"}) & loaded


def test_loading_every_command_imports_no_stage() -> None:
    code = "from medtex_edge.cli import COMMANDS, main\nfor name in COMMANDS: main([name, '--help'])"
    loaded = loaded_by(code)
    assert not (HEAVY | {"cv2", "onnxruntime"}) & loaded


def test_no_stage_is_imported_by_the_name_of_its_folder() -> None:
    roots = [PACKAGE, *(PACKAGE / stage for stage in ("train", "export", "evaluate", "runtime"))]
    lines = [
        f"{path}: {line}"
        for root in roots
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.split()[:1] in (["import"], ["from"])
        and line.split()[1].split(".")[0] in ("train", "export", "evaluate", "runtime")
    ]
    assert lines == []
