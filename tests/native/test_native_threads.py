"""The native module's threads: any number draws the same picture, callers do not wait for each other, forks live."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.image.geometry import FieldOfView, crop_resize
from medtex_edge.runtime.display.overlay import blend_table

_native = pytest.importorskip("medtex_edge._native", reason="the native module is not built here")
BOX = FieldOfView(60, -30, 500, 1.0)


@pytest.fixture(autouse=True)
def usual_threads() -> Iterator[None]:
    yield
    _native.set_threads(0)


def _frame(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def _drawn(frame: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    saliency = np.random.default_rng(1).random((56, 56), np.float32)
    small, large = crop_resize(frame, BOX, 224, 224), frame.copy()
    _native.draw_saliency(large, saliency, BOX.left, BOX.top, BOX.side, blend_table())
    return small, large


@pytest.mark.parametrize("threads", [2, 3, 5, 16])
def test_any_number_of_threads_gives_the_same_pixels(threads: int) -> None:
    assert _native.set_threads(1) == 1
    alone = _drawn(_frame())
    assert _native.set_threads(threads) == threads
    for _ in range(20):
        for mine, theirs in zip(_drawn(_frame()), alone, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_callers_in_several_threads_get_each_its_own_picture() -> None:
    _native.set_threads(3)
    expected = [_drawn(_frame(seed)) for seed in range(4)]
    wrong: list[int] = []

    def draw(seed: int) -> None:
        for _ in range(50):
            if not all(np.array_equal(a, b) for a, b in zip(_drawn(_frame(seed)), expected[seed], strict=True)):
                wrong.append(seed)

    callers = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_draws_and_ends() -> None:
    program = (
        "import os, sys, numpy as np\n"
        "from medtex_edge import _native\n"
        "from medtex_edge.image.geometry import FieldOfView, crop_resize\n"
        "_native.set_threads(3)\n"
        "frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)\n"
        "box = FieldOfView(0, 0, 480, 1.0)\n"
        "before = crop_resize(frame, box, 224, 224)\n"
        "child = os.fork()\n"
        "same = np.array_equal(before, crop_resize(frame, box, 224, 224))\n"
        "if child == 0:\n"
        "    sys.exit(0 if same else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "sys.exit(os.waitstatus_to_exitcode(status) if same else 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_thread_is_left_behind_when_their_number_changes() -> None:
    def count() -> int:
        tasks = Path("/proc/self/task")
        return len(list(tasks.iterdir())) if tasks.is_dir() else 0

    _native.set_threads(1)
    before = count()
    for threads in (4, 2, 8, 1):
        _native.set_threads(threads)
        crop_resize(_frame(), BOX, 224, 224)
    assert count() == before
    assert _native.set_threads(10_000) == 16
