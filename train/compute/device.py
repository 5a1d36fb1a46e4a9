"""Where and in which precision a training runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from medtex_edge.train.compute.memory import keep_freed_memory
from medtex_edge.train.compute.processes import group


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
    def words(self) -> str:
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
