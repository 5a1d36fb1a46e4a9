"""The native core under sanitizers: its own tests in C++ (tests/native), without Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

pytestmark = pytest.mark.slow


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": TOOLS}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def compiler_for(sanitizers: str, folder: Path) -> str:
    """The C++ compiler, or skip: some have no runtime of a sanitizer, and some kernels do not let one start."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    (folder / "empty.cpp").write_text("int main() {}\n")
    done = run(compiler, f"-fsanitize={sanitizers}", folder / "empty.cpp", "-o", folder / "empty")
    if done.returncode == 0:
        done = run(folder / "empty")
    if done.returncode != 0:
        pytest.skip(f"{compiler} -fsanitize={sanitizers} does not work here: {(done.stderr.splitlines() or [''])[0]}")
    return compiler


@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined,float-cast-overflow"])
def test_the_core_keeps_to_its_memory_its_integers_and_its_locks(sanitizers: str, tmp_path: Path) -> None:
    compiler = compiler_for(sanitizers, tmp_path)
    cmake = shutil.which("cmake", path=TOOLS)
    if cmake is None:
        pytest.skip("no cmake on this machine")
    made = tmp_path / "made"
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=TOOLS) else []
    options = [f"-DCMAKE_CXX_COMPILER={compiler}", f"-DSANITIZE={sanitizers}"]
    for step in (
        [cmake, "-S", str(SOURCES), "-B", str(made), *generator, *options],
        [cmake, "--build", str(made), "--parallel", str(os.cpu_count())],
        [str(made / "native_tests")],
    ):
        done = run(*step)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" tests, 0 failed\n")
