"""The description of the machine that a benchmark ran on, with what may have slowed it down."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from medtex_edge import __version__
from medtex_edge.image.geometry import native_available

_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")
_RASPBERRY = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_BUSY = 0.3  # cores in use by others, over the last minute


def describe(backend: str, precision: str) -> dict[str, Any]:
    """CPU, cores, versions, clocks and load, for a report; what this system does not report is None."""
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _first("cpufreq/policy*/scaling_governor", "cpu*/cpufreq/scaling_governor"),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "temperature_c": temperature(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {"medtex-edge": __version__} | {name: _version(*names) for name, names in _PACKAGES.items()},
        "native": native_available(),
        "backend": backend,
        "precision": precision,
    }


def cpu_name() -> str:
    """The board's name where the device tree has one, the CPU's model, or the architecture."""
    board = _text(Path("/proc/device-tree/model")).strip("\0\n ")
    model = re.search(r"^model name\s*: (.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return ", ".join(filter(None, (board, model[1].strip() if model else ""))) or platform.machine()


def temperature() -> float | None:
    """The temperature of the hottest zone in degrees Celsius, None where there is no sensor."""
    found = [_text(path).strip() for path in sorted(_THERMAL.glob("thermal_zone*/temp"))]
    degrees = [int(text) / 1000 for text in found if re.fullmatch(r"-?\d+", text)]
    return max(degrees) if degrees else None


def throttled() -> int | None:
    """A number that changes when the CPU is slowed down for heat or for lack of power; None where none is kept."""
    flags = _text(_RASPBERRY).strip()
    if re.fullmatch(r"[0-9a-fA-F]+", flags):
        return int(flags, 16)
    counts = [_text(path).strip() for path in sorted(_CPUS.glob("cpu*/thermal_throttle/core_throttle_count"))]
    return sum(map(int, filter(str.isdecimal, counts))) if counts else None


def resident_bytes() -> int | None:
    """The memory of this process that lies in RAM; None where the system does not report it."""
    fields = _text(Path("/proc/self/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None


def warnings(machine: dict[str, Any], throttled_before: int | None) -> list[str]:
    """The reasons to doubt the figures, one line each."""
    found = []
    if not machine["native"]:
        found.append("the native module is not in use: `medtex-edge doctor` says why")
    if machine["load"] is not None and machine["load"] > _BUSY:
        found.append(f"other work used the CPU before the start (load {machine['load']:.1f})")
    if machine["governor"] not in (None, "performance"):
        found.append(f"the CPU's clock follows its load (governor {machine['governor']}): the first frames are slower")
    if throttled_before is not None and throttled() != throttled_before:
        found.append("the CPU was slowed down meanwhile, for heat or for lack of power")
    return found


_PACKAGES = {
    "numpy": ("numpy",),
    "opencv": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
}


def _version(*names: str) -> str | None:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _first(*patterns: str) -> str | None:
    texts = (_text(path).strip() for pattern in patterns for path in sorted(_CPUS.glob(pattern)))
    return next(filter(None, texts), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
