"""Installing must work on any machine: without a compiler, with one that fails, from the sdist, and editable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from tree_kit import STAGES, copy_tree

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation", "-Ccmake.build-type=Debug")  # which compiles faster

pytestmark = pytest.mark.slow
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on this machine"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project, so that nothing is left in it and no earlier build is found."""
    return copy_tree(tmp_path / "tree")


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel_of(source: Path, into: Path, **environment: str) -> zipfile.ZipFile:
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", str(into), str(source), folder=into.parent, **environment)
    (path,) = into.glob("*.whl")
    return zipfile.ZipFile(path)


def what_it_says(site: Path) -> str:
    """Import from `site` alone (an editable install's finder would come before it) and resize a photograph."""
    code = (
        "import sys, numpy as np\n"
        "sys.meta_path = [f for f in sys.meta_path if 'ScikitBuild' not in type(f).__name__]\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        "from medtex_edge.image import geometry as image\n"
        f"assert image.__file__.startswith({str(site)!r})\n"
        "rows, columns = np.mgrid[:200, :240]\n"
        "disc = (np.hypot(rows - 100, columns - 120) < 80)[..., None] * np.uint8([180, 90, 40])\n"
        "out, fov = image.prepare(disc.astype(np.uint8), 32, 32)\n"
        "print(image.native_available(), fov.left, fov.top, fov.side, int(out.sum()))\n"
    )
    return run(sys.executable, "-c", code, folder=site)


def native_files(wheel: zipfile.ZipFile) -> list[str]:
    return [name for name in wheel.namelist() if name.startswith("medtex_edge/_native.") and not name.endswith(".pyi")]


def test_a_machine_without_a_compiler_gets_the_reference(tree: Path, tmp_path: Path) -> None:
    wheel = wheel_of(tree, tmp_path / "wheels", CXX="/bin/false")
    assert not native_files(wheel)
    wheel.extractall(tmp_path / "site")
    assert what_it_says(tmp_path / "site").startswith("False ")


@needs_compiler
def test_a_compiler_that_fails_on_the_sources_still_installs(tree: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"  # good enough to be chosen, too old for what comes then
    compiler.write_text('#!/bin/sh\ncase "$*" in *nanobind*|*runtime/native*) exit 1;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    wheel = wheel_of(tree, tmp_path / "wheels", CXX=str(compiler))
    assert not native_files(wheel)
    wheel.extractall(tmp_path / "site")
    assert what_it_says(tmp_path / "site").startswith("False ")


@needs_compiler
def test_a_wheel_made_from_the_sdist_holds_the_native_module_and_every_stage(tree: Path, tmp_path: Path) -> None:
    code = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, str(tmp_path / "sdist"), folder=tree)
    (sdist,) = (tmp_path / "sdist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert all(member.isfile() or member.isdir() for member in archive)  # links do not survive everywhere
    wheel = wheel_of(sdist, tmp_path / "wheels")
    assert len(native_files(wheel)) == 1
    for stage in STAGES:
        assert wheel.read(f"medtex_edge/{stage}/__init__.py") == (tree / stage / "__init__.py").read_bytes()
    wheel.extractall(tmp_path / "site")
    native = what_it_says(tmp_path / "site")
    assert native.startswith("True ")
    for path in (tmp_path / "site/medtex_edge").glob("_native.*.so"):
        path.unlink()
    assert what_it_says(tmp_path / "site").split()[1:] == native.split()[1:]


@needs_compiler
def test_an_editable_install_follows_the_tree_and_finds_the_native_module_from_its_root(
    tree: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    run(*PIP, "install", *OFFLINE, "--target", str(site), "--editable", str(tree), folder=tmp_path)
    (tree / "train/added_later.py").write_text("LATE = True\n")
    # As a start of Python does with the .pth file of a site folder, after dropping that of this very environment.
    code = (
        "import site, sys\n"
        "sys.meta_path = [f for f in sys.meta_path if 'ScikitBuild' not in type(f).__name__]\n"
        "sys.modules.pop('_editable_skbc_medtex_edge', None)\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        f"site.addsitedir({str(site)!r})\n"
        "import medtex_edge.image.geometry as image, medtex_edge.train.added_later as late\n"
        f"assert image.__file__.startswith({str(tree)!r}), image.__file__\n"
        f"assert image._detect_fov.__module__ == 'medtex_edge._native' and late.LATE\n"
    )
    for folder in (tree, tmp_path):  # Python puts the working folder first: the tree's own medtex_edge would hide it
        run(sys.executable, "-c", code, folder=folder)
