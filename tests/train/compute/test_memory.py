"""Memory that a training frees is there for its next step."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from medtex_edge.train.compute.device import CHOSEN

# Ten times a block larger than any that glibc would keep by itself; prints how often the system had to clear a page.
FAULTS = """
import resource, torch
from medtex_edge.train.compute import device
device.choose("fp32")
for _ in range(2):
    torch.zeros(25_000_000).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(25_000_000).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
REQUEST = "from medtex_edge.train.compute.device import keep_freed_memory; print(keep_freed_memory())"
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives large blocks back at once")


def _run(code: str, **chosen: str) -> str:
    plain = {name: value for name, value in os.environ.items() if name not in (*CHOSEN, "THP_MEM_ALLOC_ENABLE")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300, env=plain | chosen
    )
    return done.stdout.strip()


@glibc
def test_a_step_finds_the_memory_of_the_one_before() -> None:
    # The same ten blocks, given back each time, are 100 MB each: 24,414 pages of 4 kB.
    assert int(_run(FAULTS)) < 1_000


@glibc
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_chose_stays(name: str) -> None:
    value = {"MALLOC_TRIM_THRESHOLD_": "1000000", "GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1000000"}[name]
    assert _run(REQUEST, **{name: value}) == "False"
    assert _run(REQUEST) == "True"
