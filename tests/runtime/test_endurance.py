"""A run may last for days: memory, Python's allocations and threads are the same after any number of frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit_environment import kit_environment

WORKER = Path(__file__).parents[1] / "kits" / "processes" / "endurance_worker.py"
MOST_RESIDENT_KB = 2048  # the index of an MP4 file grows by 75 bytes a frame
MOST_BLOCKS = 400  # more of Python's memory; its own caches fill up: 92 were counted after 100,000 frames
MOST_TRACED = 32768  # bytes; tracemalloc loses sight of a freed block now and then: 11 kB after 100,000 frames
LONG = os.environ.get("MEDTEX_EDGE_LONG") == "1"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self")
only_long = pytest.mark.skipif(not LONG, reason="takes half an hour or so: run it with MEDTEX_EDGE_LONG=1")


def endure(folder: Path, *options: str, frames: int, warm: int, python: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the worker; stderr must stay empty, also of the warnings of `-X dev` about files that were not closed."""
    command = [sys.executable, *python, str(WORKER), str(folder), "--frames", str(frames), "--warm", str(warm)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=7200, check=False, env=kit_environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    print(done.stdout)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["frames"]["read"] >= frames
    assert found["frames"]["scored"] > found["readings"] * 0.9
    assert {"unreadable", "black", "duplicate"} <= set(found["frames"]["refused"])
    assert [sink["error"] for sink in found["sinks"]] == [None] * 3
    return found


def assert_nothing_grew(found: dict[str, Any]) -> None:
    early, late = found["resident_kb"]
    assert late - early <= MOST_RESIDENT_KB
    assert sum(found["growth"].values()) <= MOST_TRACED, found["growth"]
    early, late = found["blocks"]
    # A snapshot of what is traced is itself made of blocks.
    assert late - early <= MOST_BLOCKS or found["growth"]
    assert (found["python_threads"], found["native_threads_more"]) == (1, 0)


def test_a_short_run_of_a_file_holds_its_memory_and_leaves_no_thread(tmp_path: Path) -> None:
    assert_nothing_grew(endure(tmp_path, frames=1200, warm=400))


def test_a_short_run_of_a_camera_keeps_no_python_object_in_development_mode_too(tmp_path: Path) -> None:
    found = endure(tmp_path, "--live", "--trace", frames=1200, warm=400, python=("-X", "dev"))
    assert found["growth"], "nothing was traced"
    assert_nothing_grew(found)


@only_long
@pytest.mark.slow
@pytest.mark.parametrize("python", [(), ("-X", "dev")], ids=["plain", "dev"])
@pytest.mark.parametrize("options", [(), ("--trace",), ("--live",)], ids=["file", "file traced", "camera"])
def test_a_hundred_thousand_frames_leave_nothing_behind(
    options: tuple[str, ...], python: tuple[str, ...], tmp_path: Path
) -> None:
    assert_nothing_grew(endure(tmp_path, *options, frames=100_000, warm=1000, python=python))
