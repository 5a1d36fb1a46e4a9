from __future__ import annotations

import ctypes
import json
from types import SimpleNamespace
from typing import Any

import pytest

from medtex_edge.cli import main
from medtex_edge.runtime.doctor import gpu, machine


def test_doctor_lists_what_is_there_and_how_to_get_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("python", "native module", "onnxruntime", "TensorRT", "/dev/video", "GStreamer", "display"):
        assert word in out
    assert "A bundle can be run here" in out


def test_doctor_as_json_has_a_cure_for_everything_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["can_run"] is True
    assert all(check["cure"] for check in value["findings"] if not check["present"])


def test_doctor_fails_where_a_required_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = machine.importlib.util.find_spec
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None if name == "numpy" else find(name))
    assert main(["doctor", "--json"]) == 1


def test_the_numpy_reference_is_named_where_the_native_module_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtex_edge.image.geometry.native_available", lambda: False)
    native = next(check for check in machine.run_checks() if check.name == "native module")
    assert not native.present
    assert not native.required
    assert "numpy reference" in native.value


class Driver:
    """The few calls of libcuda that are used, for one device."""

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: Any) -> int:
        text.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0


def test_the_cuda_driver_names_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert gpu.cuda_devices() == "12.6: Orin (SM 8.7)"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(0))
    assert gpu.cuda_devices() == "no device"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 100))
    assert gpu.cuda_devices().startswith("no ")


def test_a_missing_driver_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpu.cuda_devices() == "no driver (libcuda.so.1)"
