"""The checks of `medtex-edge doctor`: what this machine has, found without importing anything heavy."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import socket
import sys
from importlib import metadata
from pathlib import Path

from medtex_edge.errors import MedtexError
from medtex_edge.runtime.doctor import gpu, jetson, opencv
from medtex_edge.runtime.doctor.check import Check
from medtex_edge.runtime.doctor.probe import SystemProbe

_TRAIN = "pip install 'medtex-edge[train]'"
_WEB = "pip install 'medtex-edge[web]'"


def run_checks(probe: SystemProbe | None = None) -> list[Check]:
    """Run every check of this machine, or of the one that `probe` reads, in the order in which they are printed."""
    probe = probe or SystemProbe()
    board = jetson.board(probe)
    missing = display_missing()
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY", "")
    return [
        *_machine(probe, board),
        *(jetson.checks(probe, board) if board else []),
        *_packages(board),
        *_backends(),
        *gpu.checks(probe, board),
        *_cameras(),
        *opencv.checks(probe, board, display, missing),
        *_extras(),
    ]


def can_run(checks: list[Check]) -> bool:
    """Whether a bundle can be run here."""
    return all(check.present for check in checks if check.required)


def video_devices() -> list[tuple[str, str]]:
    """The video devices that are there: (path, the name that the driver gives)."""
    found = []
    for path in Path("/dev").glob("video[0-9]*"):
        label = Path("/sys/class/video4linux") / path.name / "name"
        try:
            name = label.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = "unnamed"
        found.append((int(path.name.removeprefix("video") or 0), str(path), name))
    return [(path, name) for _, path, name in sorted(found)]


def display_missing() -> str:
    """Why no window can be opened, or ''. Checks what costs nothing first."""
    if sys.platform != "linux":
        return ""
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "" if os.environ.get("WAYLAND_DISPLAY") else "neither DISPLAY nor WAYLAND_DISPLAY is set"
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if host in ("", "unix") and number.isdigit():
        for address in (f"/tmp/.X11-unix/X{number}", f"\0/tmp/.X11-unix/X{number}"):
            with socket.socket(socket.AF_UNIX) as connection:
                if connection.connect_ex(address) == 0:
                    return ""
        return f"DISPLAY is {display}, but nothing answers there"
    return ""


def _machine(probe: SystemProbe, board: jetson.JetsonBoard | None) -> list[Check]:
    version = platform.python_version()
    supported = sys.version_info >= (3, 10)
    found = [
        Check("machine", "python", f"{version} ({sys.executable})", supported, True, "python 3.10 or newer"),
        Check("machine", "platform", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Check("machine", "cores", f"{_cores()} of {os.cpu_count()} may be used"),
    ]
    if board:  # the section `jetson` has more
        return found
    name = probe.line("proc/device-tree/model")  # of other Arm boards
    memory = _memory_mib(probe)
    return [
        *found,
        *([Check("machine", "board", name)] if name else []),
        Check("machine", "memory", f"{memory[0]} MiB, {memory[1]} MiB free" if memory else "unknown"),
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mib(probe: SystemProbe) -> tuple[int, int] | None:
    text = probe.text("proc/meminfo")
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d{1,15}) kB", text, re.MULTILINE)}
    return (kib["MemTotal"] >> 10, kib.get("MemAvailable", 0) >> 10) if "MemTotal" in kib else None


def _packages(board: jetson.JetsonBoard | None) -> list[Check]:
    return [
        _native(),
        _package("numpy", "numpy", "pip install numpy"),
        _package("opencv", "cv2", opencv.source(board)),
        _package("onnxruntime", "onnxruntime", "pip install onnxruntime"),
        _package("rich", "rich", "pip install rich"),
    ]


def _native() -> Check:
    try:
        from medtex_edge.image.geometry import native_available

        native = native_available()
    except (ImportError, MedtexError) as error:
        return Check("packages", "native module", f"broken: {error}", False, True, "install medtex-edge again")
    if native:
        return Check("packages", "native module", "built")
    forced = os.environ.get("MEDTEX_EDGE_NATIVE") == "0"
    why = "switched off by MEDTEX_EDGE_NATIVE=0" if forced else "not built: the numpy reference serves, slower"
    cure = "unset MEDTEX_EDGE_NATIVE" if forced else "sudo apt install g++ python3-dev, then install medtex-edge again"
    return Check("packages", "native module", why, False, cure=cure)


def _package(name: str, module: str, cure: str) -> Check:
    """Whether a package that is needed can be found, and its version, without importing it."""
    if importlib.util.find_spec(module) is None:
        return Check("packages", name, "missing", False, True, cure)
    return Check("packages", name, _version(module), True, True)


def _version(module: str) -> str:
    """The version of whichever distribution brings the module (opencv-python, opencv-python-headless, JetPack's...)."""
    names = {"cv2": ["opencv-python", "opencv-python-headless", "opencv-contrib-python"]}.get(module, [module])
    names += {"onnxruntime": ["onnxruntime-gpu", "onnxruntime-openvino"]}.get(module, [])
    for name in names:
        try:
            return f"{metadata.version(name)} ({name})" if name != module else metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "present, its version is not recorded"


def _backends() -> list[Check]:
    try:
        import onnxruntime
    except ImportError as error:
        return [Check("backends", "onnxruntime", f"missing: {error}", False, True, "pip install onnxruntime")]
    providers = onnxruntime.get_available_providers()
    return [Check("backends", "onnxruntime", f"providers {', '.join(providers)}", bool(providers), True)]


def _cameras() -> list[Check]:
    devices = video_devices()
    found = [
        Check("cameras", path, name, os.access(path, os.R_OK | os.W_OK), cure="sudo usermod -aG video $USER")
        for path, name in devices
    ]
    return found or [Check("cameras", "/dev/video*", "none", False, cure="plug one in; files and streams work without")]


def _extras() -> list[Check]:
    training = ("torch", "timm", "kornia", "sklearn", "matplotlib", "safetensors", "onnx", "onnxscript")
    return [
        _extra("live page", "web", ("starlette", "uvicorn", "websockets"), f"{_WEB} (for run --serve)"),
        _extra("training", "train", training, f"{_TRAIN} (a device does not need it)"),
    ]


def _extra(section: str, name: str, modules: tuple[str, ...], cure: str) -> Check:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    value = "installed" if not absent else f"lacks {', '.join(absent)}"
    return Check(section, f"extra {name}", value, not absent, cure=cure)
