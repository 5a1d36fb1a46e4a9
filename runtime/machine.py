"""What this machine has, found without importing anything heavy: `medtex-edge doctor` prints it.

A finding that is missing says how to get it. Only what `required` says is needed to run a bundle.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from medtex_edge.errors import MedtexError

_CUDA_ATTRIBUTES = {"major": 75, "minor": 76}  # CUdevice_attribute, cuda.h
_TRAIN = "pip install 'medtex-edge[train]'"
_WEB = "pip install 'medtex-edge[web]'"


@dataclass(frozen=True)
class Finding:
    """One line. `cure` is how to get it, where it is missing or could be better."""

    section: str
    name: str
    value: str
    present: bool = True
    required: bool = False
    cure: str = ""

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dump`."""
        return asdict(self)


def look() -> list[Finding]:
    """Everything, in the order in which it is printed."""
    looks: tuple[Callable[[], list[Finding]], ...] = (_machine, _packages, _backends, _gpu, _cameras, _opencv, _extras)
    return [finding for part in looks for finding in part()]


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


def _machine() -> list[Finding]:
    version = platform.python_version()
    supported = sys.version_info >= (3, 10)
    memory = _memory_mib()
    return [
        Finding("machine", "python", f"{version} ({sys.executable})", supported, True, "python 3.10 or newer"),
        Finding("machine", "platform", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *_board(),
        Finding("machine", "cores", f"{_cores()} of {os.cpu_count()} may be used"),
        Finding("machine", "memory", f"{memory[0]} MiB, {memory[1]} MiB free" if memory else "unknown"),
    ]


def _board() -> list[Finding]:
    """The board's own name, which device trees of Arm boards hold."""
    try:
        name = Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return []
    return [Finding("machine", "board", name)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mib() -> tuple[int, int] | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return kib["MemTotal"] >> 10, kib.get("MemAvailable", 0) >> 10


def _packages() -> list[Finding]:
    found = [_native()]
    for name, module in (("numpy", "numpy"), ("opencv", "cv2"), ("onnxruntime", "onnxruntime"), ("rich", "rich")):
        distribution = {"opencv": "opencv-python", "onnxruntime": "onnxruntime"}.get(name, name)
        found.append(_package("packages", name, module, f"pip install {distribution}", required=True))
    return found


def _native() -> Finding:
    try:
        from medtex_edge.image import native_available

        native = native_available()
    except (ImportError, MedtexError) as error:
        return Finding("packages", "native module", f"broken: {error}", False, True, "install medtex-edge again")
    if native:
        return Finding("packages", "native module", "built")
    forced = os.environ.get("MEDTEX_EDGE_NATIVE") == "0"
    why = "switched off by MEDTEX_EDGE_NATIVE=0" if forced else "not built: the numpy reference serves, slower"
    cure = "unset MEDTEX_EDGE_NATIVE" if forced else "sudo apt install g++ python3-dev, then install medtex-edge again"
    return Finding("packages", "native module", why, False, cure=cure)


def _package(section: str, name: str, module: str, cure: str, *, required: bool = False) -> Finding:
    """Whether a package can be found, and its version, without importing it."""
    if importlib.util.find_spec(module) is None:
        return Finding(section, name, "missing", False, required, cure)
    return Finding(section, name, _version(module), True, required)


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


def _gpu() -> list[Finding]:
    driver = cuda_devices()
    found = [
        Finding("gpu", "CUDA", driver) if isinstance(driver, str) and not driver.startswith("no ")
        else Finding("gpu", "CUDA", driver, False, cure="NVIDIA's driver; on a Jetson it comes with JetPack")
    ]  # fmt: skip
    jetpack = "on a Jetson: sudo apt install nvidia-jetpack, in an environment made with --system-site-packages"
    found.append(_package("gpu", "TensorRT", "tensorrt", f"{jetpack}; else pip install tensorrt"))
    found.append(_package("gpu", "TensorRT for RTX", "tensorrt_rtx", "pip install tensorrt-rtx (GeForce RTX)"))
    found.append(_package("gpu", "pycuda", "pycuda", "pip install 'medtex-edge[tensorrt]' (needs the CUDA toolkit)"))
    return found


def cuda_devices() -> str:
    """The driver's CUDA version and its devices, or a text that begins with "no "."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no driver (libcuda.so.1)"
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return "no device that the driver can use"
    cuda.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for index in range(count.value):
        device, text = ctypes.c_int(), ctypes.create_string_buffer(128)
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(text, len(text), device)
        capability = {}
        for name, attribute in _CUDA_ATTRIBUTES.items():
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability[name] = value.value
        names.append(f"{text.value.decode(errors='replace')} (SM {capability['major']}.{capability['minor']})")
    if not names:
        return "no device"
    return f"{version.value // 1000}.{version.value % 1000 // 10}: {', '.join(names)}"


def _cameras() -> list[Finding]:
    devices = video_devices()
    found = [
        Finding("cameras", path, name, os.access(path, os.R_OK | os.W_OK), cure="sudo usermod -aG video $USER")
        for path, name in devices
    ]
    return found or [
        Finding("cameras", "/dev/video*", "none", False, cure="plug one in; files and streams work without")
    ]


def _opencv() -> list[Finding]:
    import cv2

    try:
        import cv2
    except ImportError as error:
        cure = "sudo apt install libgl1 libglib2.0-0, or pip install opencv-python-headless (no window)"
        return [Finding("opencv", "import", f"fails: {error}", False, True, cure)]
    build = cv2.getBuildInformation()
    has = {name: re.search(rf"{name}:\s+YES", build) is not None for name in ("FFMPEG", "GStreamer")}
    window = re.search(r"GUI:\s+(\S+)", build)
    why = display_missing()
    return [
        Finding("opencv", "FFmpeg", "yes" if has["FFMPEG"] else "no: videos and streams cannot be read",
                has["FFMPEG"], cure="pip install opencv-python"),
        Finding("opencv", "GStreamer", "yes" if has["GStreamer"] else "no: only --camera csi needs it",
                has["GStreamer"], cure="JetPack's own OpenCV (sudo apt install python3-opencv), not the wheel of PyPI"),
        Finding("opencv", "windows", window[1] if window else "none", window is not None and window[1] != "NONE",
                cure="pip install opencv-python instead of opencv-python-headless"),
        Finding("opencv", "display", why or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY", ""), not why,
                cure="run on the desktop or with ssh -X; --serve, --save and --readings work without"),
    ]  # fmt: skip


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
