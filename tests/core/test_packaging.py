"""What the wheel holds, and that what it holds works without the tree it was built from."""

from __future__ import annotations

import email.message
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tree_kit import ROOT, STAGES, copy_tree


def build(into: Path, *options: str) -> zipfile.ZipFile:
    """Build a wheel from a copy of the tree, so that nothing is left in it and no earlier build is found."""
    tree = copy_tree(into / "tree")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(into), *options, str(tree)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = into.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def wheel(place: Path) -> zipfile.ZipFile:
    return build(place)


@pytest.fixture(scope="module")
def tree(place: Path, wheel: zipfile.ZipFile) -> Path:
    """The copy that the wheel was built from: the tree itself may be edited meanwhile."""
    return place / "tree"


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


@pytest.mark.parametrize("stage", STAGES)
def test_the_stages_are_links_to_the_folders_at_the_top(stage: str) -> None:
    link = ROOT / "medtex_edge" / stage
    assert link.is_symlink()
    assert link.readlink() == Path("..") / stage
    assert (link / "__init__.py").samefile(ROOT / stage / "__init__.py")


@pytest.mark.parametrize("stage", STAGES)
def test_the_wheel_holds_each_stages_files_with_their_content(stage: str, wheel: zipfile.ZipFile, tree: Path) -> None:
    prefix = f"medtex_edge/{stage}/"
    packed = {n.removeprefix(prefix) for n in wheel.namelist() if n.startswith(prefix) and n.endswith(".py")}
    assert packed == {str(path.relative_to(tree / stage)) for path in (tree / stage).rglob("*.py")}
    for name in packed:
        assert wheel.read(prefix + name) == (tree / stage / name).read_bytes()


def test_the_wheel_holds_the_package_and_states_that_it_is_typed(wheel: zipfile.ZipFile, tree: Path) -> None:
    names = set(wheel.namelist())
    for path in [*(tree / "medtex_edge").glob("*.py"), *(tree / "medtex_edge" / "commands").glob("*.py")]:
        assert str(path.relative_to(tree)) in names
    assert "medtex_edge/py.typed" in names
    assert "medtex_edge/runtime/web/page.html" in names
    assert {f"medtex_edge/train/report/templates/{name}.html" for name in ("page", "parts")} <= names


def test_the_wheel_holds_no_sources_of_the_native_module_no_tests_and_no_data(wheel: zipfile.ZipFile) -> None:
    allowed = {".py", ".pyi", ".so", ".typed", ".html"}
    inside = [Path(name) for name in wheel.namelist() if ".dist-info/" not in name]
    assert {path.parts[0] for path in inside} == {"medtex_edge"}
    assert {path.suffix for path in inside} <= allowed
    assert not [path for path in inside if "native" in path.parts or "tests" in path.parts]


def test_the_wheel_holds_the_native_module_where_there_is_a_compiler(wheel: zipfile.ZipFile) -> None:
    if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler on this machine")
    assert [name for name in wheel.namelist() if name.startswith("medtex_edge/_native.")]


def test_a_device_needs_no_torch_and_the_licence_is_named(metadata: email.message.Message) -> None:
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in needed if line.startswith(("torch", "timm", "onnx>", "matplotlib", "tensorrt"))]
    assert metadata["License-Expression"] == "Apache-2.0"


@pytest.mark.parametrize("native", [True, False])
def test_the_wheels_content_works_away_from_the_tree(native: bool, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    if not native:
        wheel = build(tmp_path, "-Cwheel.cmake=false")
        assert not [name for name in wheel.namelist() if name.endswith(".so")]
    wheel.extractall(tmp_path / "site")
    # The tree may be installed as editable: its finder would come before any path.
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'kit' not in type(f).__name__.lower()]\n"
        "sys.path.insert(0, sys.argv.pop()); import medtex_edge, medtex_edge.image.geometry, medtex_edge.runtime\n"
        "print(medtex_edge.__file__, medtex_edge.image.geometry.native_available())\n"
        "from medtex_edge.cli import main; sys.exit(main(['--version']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found, available = done.stdout.split()[:2]
    assert Path(found).is_relative_to(tmp_path)
    if not native:
        assert available == "False"
