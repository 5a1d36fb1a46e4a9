"""Freed memory that the C library keeps for the next step, on a CPU, in large pages.

glibc gives every large block back to the system and asks for it anew; each step of a training then waits while the
system clears the same hundreds of megabytes once more, 4 kB at a time (PyTorch has an allocator of its own for GPUs
alone). See docs/evidence/history.md for what it is worth.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # M_* of glibc's malloc.h, mallopt(3)
PAD = 64 << 20  # bytes asked for at a time
# A user's own choice comes first; other allocators, such as jemalloc, have no such habit.
CHOSEN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep what this process frees; False where there is no glibc, or its settings were chosen."""
    if any(os.environ.get(name) for name in CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it at its first large tensor
    return all(mallopt(name, value) for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, PAD)))
