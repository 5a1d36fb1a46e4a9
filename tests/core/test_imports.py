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
    for folder in (PACKAGE, PACKAGE / "api", PACKAGE / "commands", PACKAGE / "runtime")
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


def test_the_package_alone_loads_nothing_but_itself_and_lists_its_public_names() -> None:
    added = loaded_by(
        "before = set(sys.modules)\nimport medtex_edge\nassert set(medtex_edge.__all__) <= set(dir(medtex_edge))\n"
        "added = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "assert added - set(sys.stdlib_module_names) == {'medtex_edge'}, added"
    )
    assert {name for name in added if name.startswith("medtex_edge")} == {"medtex_edge"}


def test_reading_a_photograph_imports_nothing_heavy_and_no_stage() -> None:
    loaded = loaded_by("import medtex_edge\nmedtex_edge.open_bundle, medtex_edge.stream, medtex_edge.Reading")
    assert "medtex_edge.api.bundle" in loaded
    assert not HEAVY & loaded
    assert not {name for name in loaded if name.startswith(("medtex_edge.train", "medtex_edge.commands"))}


def test_every_public_name_can_be_imported_and_no_other_is_there() -> None:
    for name in medtex_edge.__all__:
        assert getattr(medtex_edge, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        medtex_edge.nothing  # noqa: B018


@pytest.mark.parametrize("stage", ["train", "export", "evaluate"])
def test_a_stage_can_be_called_before_and_after_its_modules_are_imported(stage: str) -> None:
    calls = f"assert callable(medtex_edge.{stage})\nimport inspect\ninspect.signature(medtex_edge.{stage})"
    for order in (f"import medtex_edge\n{calls}", f"import medtex_edge.{stage}\n{calls}"):
        assert not HEAVY & loaded_by(order)


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
