"""The checks of CUDA, TensorRT and pycuda: what is installed, whether it can be imported, the next command if not."""

from __future__ import annotations

import ctypes
import json
import re
from typing import Any

from medtex_edge.runtime.doctor import jetson
from medtex_edge.runtime.doctor.check import Check
from medtex_edge.runtime.doctor.probe import SystemProbe

_OLDEST = (10, 3)  # TensorRT: the first with what one builder for 10 and 11 needs
_ATTRIBUTES = {"major": 75, "minor": 76}  # CUdevice_attribute, cuda.h
_TOOLKIT = "usr/local/cuda"
_BINDINGS = "sudo apt update && sudo apt install python3-libnvinfer"
_DLA_LIBRARY = "libnvdla_compiler.so"  # TensorRT's Python module of JetPack 6 is linked to it on every board
_DLA_CURE = "sudo apt install nvidia-l4t-dla-compiler && sudo ldconfig"
# The empty entry of sys.path is the working folder, where any file could be called tensorrt.py.
_PROBE = "import sys; sys.path = [p for p in sys.path if p]; import {module}; print('version', {version})"


def checks(probe: SystemProbe, board: jetson.JetsonBoard | None) -> list[Check]:
    """The section `gpu`."""
    driver = cuda_devices()
    found = [
        Check("gpu", "CUDA", driver + _driver(probe)) if not driver.startswith("no ")
        else Check("gpu", "CUDA", driver, False, cure="NVIDIA's driver; on a Jetson it comes with JetPack")
    ]  # fmt: skip
    if board:
        return [*found, _toolkit(probe), _jetpack_tensorrt(probe, board), _pycuda(probe, board)]
    tensorrt = _imported(probe, "TensorRT", "tensorrt", "tensorrt.__version__", "pip install tensorrt")
    rtx_cure = "pip install tensorrt-rtx (GeForce RTX)"
    rtx = _imported(probe, "TensorRT for RTX", "tensorrt_rtx", "tensorrt_rtx.__version__", rtx_cure)
    return [*found, _not_old(tensorrt, "pip install --upgrade tensorrt"), rtx, _pycuda(probe, board)]


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
        for name, attribute in _ATTRIBUTES.items():
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability[name] = value.value
        names.append(f"{text.value.decode(errors='replace')} (SM {capability['major']}.{capability['minor']})")
    if not names:
        return "no device"
    return f"{version.value // 1000}.{version.value % 1000 // 10}: {', '.join(names)}"


def _driver(probe: SystemProbe) -> str:
    found = re.search(r"(?:for \w+|Module)\s+(\d+(?:\.\d+)+)", probe.line("proc/driver/nvidia/version"))
    return f", driver {found[1]}" if found else ""


def _toolkit(probe: SystemProbe) -> Check:
    """The compiler and headers that pycuda is built with; a bundle needs the runtime alone."""
    version = toolkit_version(probe.text(f"{_TOOLKIT}/version.json"))
    if probe.glob(f"{_TOOLKIT}/bin/nvcc"):
        return Check("gpu", "CUDA toolkit", f"{version or 'of an unknown version'} in /{_TOOLKIT}")
    runtimes = [name for name in probe.packages if re.fullmatch(r"cuda-cudart-\d+-\d+", name)]
    value = f"no compiler (nvcc) in /{_TOOLKIT}/bin" + (f", {max(runtimes)} alone" if runtimes else "")
    return Check("gpu", "CUDA toolkit", value, False, cure=jetson.INSTALL)


def toolkit_version(text: str) -> str:
    """The toolkit's version from its version.json, or ''."""
    try:
        value: Any = json.loads(text)
        version = value["cuda"]["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return version[:20] if isinstance(version, str) else ""


def _jetpack_tensorrt(probe: SystemProbe, board: jetson.JetsonBoard) -> Check:
    """JetPack's: the libraries, their Python module, whether this Python sees it, whether it can be imported."""
    libraries = {name: version for name, version in probe.packages.items() if re.fullmatch(r"libnvinfer\d+", name)}
    newest = max((version.partition("-")[0] for version in libraries.values()), key=_numbers, default="")
    if newest and _numbers(newest) < _OLDEST:
        return _not_old(Check("gpu", "TensorRT", newest), jetson.FLASH)
    if probe.places("tensorrt"):
        return _not_old(_imported(probe, "TensorRT", "tensorrt", "tensorrt.__version__", _BINDINGS), jetson.FLASH)
    if not newest:
        return Check("gpu", "TensorRT", "missing", False, cure=jetson.INSTALL)
    have = f"libnvinfer {newest} is there"
    if "python3-libnvinfer" not in probe.packages:
        return Check("gpu", "TensorRT", f"{have}, its Python module is not", False, cure=_BINDINGS)
    cure = jetson.python_cure(probe, board) or "sudo apt install --reinstall python3-libnvinfer"
    return Check("gpu", "TensorRT", f"{have}, this Python does not see its module", False, cure=cure)


def _pycuda(probe: SystemProbe, board: jetson.JetsonBoard | None) -> Check:
    # pycuda's own setup finds the toolkit by the nvcc on the path, and by no variable.
    cure = "PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
    if board and not probe.glob(f"{_TOOLKIT}/bin/nvcc"):
        cure = f"{jetson.INSTALL}, then {cure}"
    return _imported(probe, "pycuda", "pycuda.driver", "pycuda.VERSION_TEXT", cure)


def _imported(probe: SystemProbe, name: str, module: str, version: str, cure: str) -> Check:
    """Whether a module is there and can be imported, in a process of its own: libraries that do not fit end one."""
    if not probe.places(module.partition(".")[0]):
        return Check("gpu", name, "missing", False, cure=cure)
    done = probe.run(probe.python, "-c", _PROBE.format(module=module, version=version))
    versions = re.findall(r"^version (.{1,40})$", done.text, re.MULTILINE)
    if done.code != 0 or not versions:
        cure = _DLA_CURE if _DLA_LIBRARY in done.text else cure
        return Check("gpu", name, f"cannot be imported: {done.last_line[:160]}", False, cure=cure)
    return Check("gpu", name, versions[-1])


def _not_old(found: Check, cure: str) -> Check:
    """The same, unless it is a TensorRT of before 10.3."""
    if not found.present or _numbers(found.value) >= _OLDEST:
        return found
    old = f"{found.value} is too old: 10.3 is needed; ONNX Runtime serves"
    return Check("gpu", found.name, old, False, cure=cure)


def _numbers(version: str) -> tuple[int, ...]:
    """(10, 3, 0) of '10.3.0.30-1+cuda12.5'."""
    return tuple(int(part) for part in re.findall(r"\d{1,6}", version.partition("-")[0])[:3])
