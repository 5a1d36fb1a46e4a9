"""What a training runs on: the device and its precision, memory that stays allocated, and a few threads for reading."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from medtex_edge.train.compute.processes import group

In = TypeVar("In")
Out = TypeVar("Out")

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # M_* of glibc's malloc.h, mallopt(3)
PAD = 64 << 20  # bytes that are requested at a time
# A user's own choice comes first; other allocators, such as jemalloc, have no such habit.
CHOSEN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@dataclass(frozen=True)
class Compute:
    """The device and the autocast type (None: everything in fp32)."""

    device: torch.device
    autocast_dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager[None]:
        """The context that the forward passes run in; losses are computed in fp32 regardless."""
        kind = self.device.type
        dtype = self.autocast_dtype
        return torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    @property
    def description(self) -> str:
        """The device and the precision in one line, with the number of processes where there are several."""
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads"
        )
        count = group().count
        many = f"{count} processes, each on " if count > 1 else ""
        kind = "fp32" if self.autocast_dtype is None else str(self.autocast_dtype).removeprefix("torch.")
        return f"{many}{name}, {kind}"


def choose(precision: str = "auto") -> Compute:
    """The GPU where there is one, of several processes each its own. `auto`: bf16 where the hardware multiplies in it,
    else fp16 on GPUs, fp32 on CPUs. On a CPU this process keeps freed memory from now on."""
    device = group().device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        if device.type == "cuda":
            precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        else:
            # Without these instructions bf16 is emulated and slower than fp32.
            precision = "bf16" if _cpu_has_bf16() else "fp32"
    if device.type == "cpu":
        keep_freed_memory()
    dtypes = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Compute(device, dtypes[precision])


def _cpu_has_bf16() -> bool:
    """avx512_bf16 or amx_bf16 on x86-64, bf16 on 64-bit Arm, as Linux names them."""
    try:
        text = Path("/proc/cpuinfo").read_text("ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())


@cache
def keep_freed_memory() -> bool:
    """Make glibc keep the memory that this process frees, in large pages, for its next step.

    glibc gives every large block back to the system and requests it anew; each step of a training then waits while the
    system clears the same hundreds of megabytes once more, 4 kB at a time. PyTorch has an allocator of its own for GPUs
    alone. False where there is no glibc, or where its settings were chosen in the environment.
    """
    if any(os.environ.get(name) for name in CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it at its first large tensor
    return all(mallopt(name, value) for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, PAD)))


def in_order(function: Callable[[In], Out], items: Iterable[In], *, threads: int = 0, ahead: int = 0) -> Iterator[Out]:
    """`map(function, items)` by threads (0: as many as cores, up to 8): OpenCV, hashing and numpy release the lock.

    At most `ahead` results (0: two per thread) wait at a time, so memory does not grow with the dataset.

    An exception of `function` is raised at its item's turn; what has not begun by then never does.
    """
    threads = threads or max(1, min(8, os.cpu_count() or 1))
    ahead = ahead or 2 * threads
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="photographs") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
