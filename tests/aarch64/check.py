"""The native module and the runtime's tests on an emulated 64-bit Arm: `make aarch64-check`.

Nothing of the machine is changed, and no foreign program is registered with its kernel: a Debian for Arm is unpacked
into build/aarch64, wheels for Arm next to it, the native core and module are cross-compiled, and QEMU runs them
all, each process by name. Then a bundle is answered by both processors.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "aarch64"
SUITE, MIRROR, PYTHON = "bookworm", "http://deb.debian.org/debian", "3.11"
PACKAGES = f"python{PYTHON},libpython{PYTHON}-dev,libstdc++6"
# opencv-python itself needs the libraries of a desktop; its window is all that the headless one lacks.
WHEELS = ("click", "hypothesis", "numpy", "onnx", "onnxruntime", "opencv-python-headless", "pytest", "rich")
GLIBC = ("2014", "_2_17", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35", "_2_36")  # up to that of `SUITE`
TOOLS = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "qemu-aarch64-static": "qemu-user-static",
         "mmdebstrap": "mmdebstrap"}  # fmt: skip
PROCESSOR = "cortex-a76"  # near to the boards' own: Armv8.2 with dot products and half precision
# ONNX Runtime asks /proc/cpuinfo for the kind of processor, and crashes on the text of an x86 processor.
CORE = """\
Features\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
TESTS = (
    "core/image/test_field_of_view", "core/image/test_crop_resize", "core/image/test_layouts",
    "runtime/quality/test_quality_metrics",
    "native/test_native_threads", "runtime/display/test_overlay_pixels", "runtime/quality/test_tracking",
    "core/test_bundle", "runtime/backend/test_backend_onnxruntime", "runtime/quality/test_quality",
    "runtime/test_pipeline",
)  # fmt: skip
# These hold a clock to what a processor does at its own speed; emulated it is thirty times slower.
TIMED = (
    "test_a_slow_sink_does_not_slow_the_inference_of_a_live_source",
    "test_a_source_that_is_lost_for_good_ends_the_run_after_its_last_frame",
    "test_inference_and_drawing_overlap",
)
MOST_PROBABILITY = 1e-3


def stop(line: str) -> NoReturn:
    raise SystemExit(f"error: {line}")


def run(*command: str | Path, needs: str, folder: Path = ROOT, **environment: str) -> None:
    """Run one step with its output shown; `needs` is what to check where it fails."""
    print("+", *map(str, command), flush=True)
    done = subprocess.run(list(map(str, command)), env={**os.environ, **environment}, cwd=folder, check=False)
    if done.returncode != 0:
        stop(f"{Path(command[0]).name} ended with {done.returncode}: {needs}")


def check_tools() -> None:
    if platform.machine() in ("aarch64", "arm64"):
        stop("this machine is a 64-bit Arm itself: `make test` checks more, and sooner")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        stop(f"{', '.join(missing)} missing; on Debian or Ubuntu: apt-get install {' '.join(missing)}")


def debian() -> Path:
    """A Debian for Arm, unpacked and not set up: nothing of it needs to run for that."""
    root = CACHE / "root"
    if not root.exists():
        part = CACHE / "root.part"
        shutil.rmtree(part, ignore_errors=True)
        run("mmdebstrap", "--architectures=arm64", "--variant=extract", f"--include={PACKAGES}", SUITE, part, MIRROR,
            needs=f"a network, {MIRROR} and Debian's keys (apt-get install debian-archive-keyring)")  # fmt: skip
        (part / "proc").mkdir(exist_ok=True)
        cores = range(os.cpu_count() or 1)
        (part / "proc/cpuinfo").write_text("".join(f"processor\t: {number}\n{CORE}\n" for number in cores))
        part.rename(root)
    return root


def wheels() -> Path:
    site = CACHE / "site"
    if not site.exists():
        part = CACHE / "site.part"
        shutil.rmtree(part, ignore_errors=True)
        platforms = [option for glibc in GLIBC for option in ("--platform", f"manylinux{glibc}_aarch64")]
        run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", part,
            "--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:", *platforms, *WHEELS,
            needs="a network and a package index with wheels for Arm")  # fmt: skip
        part.rename(site)
    return site


def emulator(root: Path) -> tuple[str, ...]:
    return ("qemu-aarch64-static", "-cpu", PROCESSOR, "-L", str(root))


def python(root: Path, site: Path, tree: Path) -> Path:
    """A Python for Arm that is started like any other, by the tests too: `sys.executable` is this file."""
    script = CACHE / "python"
    paths = [str(tree), *kit_folders(tree), str(site)]
    script.write_text(
        f"#!/bin/sh\nexport PYTHONHOME='{root}/usr' PYTHONPATH='{os.pathsep.join(paths)}'\n"
        f'exec {" ".join(emulator(root))} -0 "$0" \'{root}/usr/bin/python{PYTHON}\' "$@"\n'
    )
    script.chmod(0o755)
    return script


def build(root: Path) -> tuple[Path, Path]:
    """The native module and the native tests for Arm, compiled by the project's own CMake files."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    cross = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_BUILD_TYPE=Release",
             "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++"]  # fmt: skip
    digits = PYTHON.replace(".", "")
    module = [
        "-DSKBUILD_PROJECT_NAME=medtex_edge", "-DSKBUILD_PROJECT_VERSION=0", f"-DPython_EXECUTABLE={sys.executable}",
        f"-DPython_INCLUDE_DIR={root}/usr/include/python{PYTHON}", f"-DCMAKE_CXX_FLAGS=-idirafter {root}/usr/include",
        f"-DSKBUILD_SOABI=cpython-{digits}-aarch64-linux-gnu",
    ]  # fmt: skip
    for name, source, options in (("module", ROOT, module), ("native", ROOT / "tests/native", ["-DSANITIZE="])):
        run("cmake", "-G", "Ninja", "-S", source, "-B", CACHE / name, *cross, *options, needs="see above", PATH=tools)
        run("cmake", "--build", CACHE / name, needs="see above", PATH=tools)
    (built,) = (CACHE / "module").glob("_native.*.so")
    return built, CACHE / "native/native_tests"


def copy_tree(module: Path) -> Path:
    """The project's Python with the module for Arm; the tree itself holds the one for this machine."""
    tree = CACHE / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for name in ("medtex_edge", "runtime", "train", "export", "evaluate", "tests"):
        left_out = shutil.ignore_patterns("__pycache__", "_native.*.so", "native")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copy(module, tree / "medtex_edge")
    return tree


def python_path() -> str:
    """For this machine's Python: the tests' helpers besides what it has."""
    return os.pathsep.join([str(ROOT), *kit_folders(ROOT), os.environ.get("PYTHONPATH", "")])


def kit_folders(tree: Path) -> list[str]:
    return sorted(str(path) for path in (tree / "tests/kits").iterdir() if any(path.glob("*.py")))


def drawn_bundle() -> Path:
    bundle = CACHE / "tiny.medtex"
    code = "import sys, pathlib, bundles; bundles.bundle(pathlib.Path(sys.argv[1]))"
    run(sys.executable, "-c", code, bundle, needs="see above", PYTHONPATH=python_path())
    return bundle


def compare(bundle: Path, arm: Path) -> None:
    """Both processors answer; boxes, pixels and quality metrics are equal to the last bit.

    The answers differ by at most `MOST_PROBABILITY`.
    """
    frames, ours, theirs = (CACHE / f"{name}.npz" for name in ("frames", "here", "arm"))
    script, path = Path(__file__).with_name("answers.py"), python_path()
    run(sys.executable, script, "frames", bundle, frames, needs="see above", PYTHONPATH=path)
    run(sys.executable, script, "answer", bundle, frames, ours, needs="see above", PYTHONPATH=path)
    run(arm, script, "answer", bundle, frames, theirs, needs="see above")
    off = {"probabilities": 0.0, "saliency": 0.0}
    flipped, unequal = [], []
    with np.load(ours) as here, np.load(theirs) as there:
        for key in here:
            what = key.rpartition("|")[2]
            if what.startswith("exact") and not np.array_equal(here[key], there[key]):
                unequal.append(key)
            if what in off:
                off[what] = max(off[what], float(np.abs(here[key] - there[key]).max()))
            if what == "probabilities" and here[key].argmax() != there[key].argmax():
                flipped.append(key)
        count = sum(key.endswith("|probabilities") for key in here)
        drift = float(there["golden drift"].max())
    print(f"{bundle.name}, {count} frames: {len(flipped)} labels differ, {len(unequal)} exact values differ, "
          f"probabilities by at most {off['probabilities']:.2g}, saliency {off['saliency']:.2g}; "
          f"golden vectors on Arm off by {drift:.2g}")  # fmt: skip
    if flipped or unequal or not off["probabilities"] <= MOST_PROBABILITY:
        stop(f"the processors disagree: {', '.join(flipped + unequal) or 'probabilities'}")


def test(arm: Path, tree: Path) -> None:
    """The runtime's tests, in the copy: Python searches for packages where it is started, and the tree holds others."""
    files = [tree / f"tests/{name}.py" for name in TESTS]
    if not all(file.exists() for file in files) or any(name not in files[-1].read_text() for name in TIMED):
        stop("this script names tests that are no longer there")
    native = "from medtex_edge.image.geometry import native_available; raise SystemExit(not native_available())"
    run(arm, "-c", native, folder=tree, needs="the native module does not load, and its tests would skip")
    run(arm, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-k", f"not ({' or '.join(TIMED)})", *files, folder=tree,
        needs="the runtime is wrong on Arm")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="a bundle to be answered by both; a drawn one where left out")
    options = parser.parse_args()
    check_tools()
    CACHE.mkdir(parents=True, exist_ok=True)
    root, site = debian(), wheels()
    module, native = build(root)
    run(*emulator(root), native, needs="the native core is wrong on Arm")
    tree = copy_tree(module)
    arm = python(root, site, tree)
    compare(options.bundle.resolve() if options.bundle else drawn_bundle(), arm)
    test(arm, tree)


if __name__ == "__main__":
    main()
