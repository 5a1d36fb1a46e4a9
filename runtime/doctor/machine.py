"""What this machine has, found without importing anything heavy: `medtex-edge doctor` prints it.

A finding that is missing says how to get it. Only what `required` says is needed to run a bundle.
"""

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
from medtex_edge.runtime.doctor.check import Finding
from medtex_edge.runtime.doctor.probe import Host

_TRAIN = "pip install 'medtex-edge[train]'"
_WEB = "pip install 'medtex-edge[web]'"


def look(host: Host | None = None) -> list[Finding]:
    """Everything, in the order in which it is printed."""
    host = host or Host()
    board = jetson.board(host)
    missing = display_missing()
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY", "")
    return [
        *_machine(host, board),
        *(jetson.findings(host, board) if board else []),
        *_packages(board),
        *_backends(),
        *gpu.findings(host, board),
        *_cameras(),
        *opencv.findings(host, board, display, missing),
        *_extras(),
    ]


def can_run(findings: list[Finding]) -> bool:
    """Whether a bundle can be run here."""
    return all(finding.present for finding in findings if finding.required)


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
    """Why no window can be thought of, or ''. Looks at what costs nothing first."""
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


def _machine(host: Host, board: jetson.Board | None) -> list[Finding]:
    version = platform.python_version()
    supported = sys.version_info >= (3, 10)
    found = [
        Finding("machine", "python", f"{version} ({sys.executable})", supported, True, "python 3.10 or newer"),
        Finding("machine", "platform", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("machine", "cores", f"{_cores()} of {os.cpu_count()} may be used"),
    ]
    if board:  # says more of itself
        return found
    name = host.line("proc/device-tree/model")  # of other Arm boards
    memory = _memory_mib(host)
    return [
        *found,
        *([Finding("machine", "board", name)] if name else []),
        Finding("machine", "memory", f"{memory[0]} MiB, {memory[1]} MiB free" if memory else "unknown"),
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mib(host: Host) -> tuple[int, int] | None:
    text = host.text("proc/meminfo")
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d{1,15}) kB", text, re.MULTILINE)}
    return (kib["MemTotal"] >> 10, kib.get("MemAvailable", 0) >> 10) if "MemTotal" in kib else None


def _packages(board: jetson.Board | None) -> list[Finding]:
    return [
        _native(),
        _package("numpy", "numpy", "pip install numpy"),
        _package("opencv", "cv2", opencv.source(board)),
        _package("onnxruntime", "onnxruntime", "pip install onnxruntime"),
        _package("rich", "rich", "pip install rich"),
    ]


def _native() -> Finding:
    try:
        from medtex_edge.image.geometry import native_available

        native = native_available()
    except (ImportError, MedtexError) as error:
        return Finding("packages", "native module", f"broken: {error}", False, True, "install medtex-edge again")
    if native:
        return Finding("packages", "native module", "built")
    forced = os.environ.get("MEDTEX_EDGE_NATIVE") == "0"
    why = "switched off by MEDTEX_EDGE_NATIVE=0" if forced else "not built: the numpy reference serves, slower"
    cure = "unset MEDTEX_EDGE_NATIVE" if forced else "sudo apt install g++ python3-dev, then install medtex-edge again"
    return Finding("packages", "native module", why, False, cure=cure)


def _package(name: str, module: str, cure: str) -> Finding:
    """Whether a package that is needed can be found, and its version, without importing it."""
    if importlib.util.find_spec(module) is None:
        return Finding("packages", name, "missing", False, True, cure)
    return Finding("packages", name, _version(module), True, True)


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


def _backends() -> list[Finding]:
    try:
        import onnxruntime
    except ImportError as error:
        return [Finding("backends", "onnxruntime", f"missing: {error}", False, True, "pip install onnxruntime")]
    providers = onnxruntime.get_available_providers()
    return [Finding("backends", "onnxruntime", f"providers {', '.join(providers)}", bool(providers), True)]


def _cameras() -> list[Finding]:
    devices = video_devices()
    found = [
        Finding("cameras", path, name, os.access(path, os.R_OK | os.W_OK), cure="sudo usermod -aG video $USER")
        for path, name in devices
    ]
    return found or [
        Finding("cameras", "/dev/video*", "none", False, cure="plug one in; files and streams work without")
    ]


def _extras() -> list[Finding]:
    training = ("torch", "timm", "kornia", "sklearn", "matplotlib", "safetensors", "onnx", "onnxscript")
    return [
        _extra("live page", "web", ("starlette", "uvicorn", "websockets"), f"{_WEB} (for run --serve)"),
        _extra("training", "train", training, f"{_TRAIN} (a device does not need it)"),
    ]


def _extra(section: str, name: str, modules: tuple[str, ...], cure: str) -> Finding:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    value = "installed" if not absent else f"lacks {', '.join(absent)}"
    return Finding(section, f"extra {name}", value, not absent, cure=cure)
