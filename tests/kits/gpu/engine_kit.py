"""Engines without a GPU: a "plan" is a graph, and ONNX Runtime what runs it.

Run as a program it is the process that builds: `python engine_kit.py HOW engine build BUNDLE ...`, where HOW is
good; slow; wrong (other answers than the bundle's); nan; crash; refuses; full (no room on the disk).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import bundles
import pytest
from kit_environment import kit_environment

from medtex_edge.bundle import Bundle, write_bundle
from medtex_edge.errors import BackendError, BundleError
from medtex_edge.runtime.backend import Backend, NonsenseError, handover, onnxruntime
from medtex_edge.runtime.engines import key as engine_key
from medtex_edge.runtime.engines.key import EngineKey

KEY = EngineKey("00" * 32, "fp16", "Some GPU", "8.7", "tensorrt", "10.3.0", "12.6")
STARTS = "MEDTEX_EDGE_TEST_STARTS"  # names a file that gets a line per build


def bundle(path: Path) -> Bundle:
    """Two precisions whose answers differ, by less than golden vectors may."""
    agreed, model = bundles.contract(), bundles.graph()
    models = {"fp32": model, "fp16": bundles.graph(gain=60.5)}
    return Bundle.open(write_bundle(path, agreed, models, bundles.golden(model, agreed), {}, {}))


def key(graph_sha256: str, precision: str) -> EngineKey:
    """`engine_key.key_of_graph` on a device that has everything."""
    return EngineKey(graph_sha256, precision, *list(vars(KEY).values())[2:])


def key_of(bundle: Bundle, precision: str = "fp16") -> EngineKey:
    """The key of one of the bundle's graphs on that device."""
    return key(bundle.manifest[f"model.{precision}.onnx"], precision)


def open_plan(bundle: Bundle, precision: str, plan: bytes) -> Backend:
    """Stands for TensorRT: warms up what it opens, and raises as that does what is wrong with it."""
    if plan == b"does not load":
        raise BackendError("engine: cannot be read")
    try:
        return onnxruntime.open_graph(plan, bundle.contract, threads=1, label="engine")
    except BundleError as error:
        raise NonsenseError(error.message) from error


def give_device(monkeypatch: pytest.MonkeyPatch, how: str = "good") -> None:
    """A device with TensorRT, whose builder is this file."""
    program = [sys.executable, __file__, how]
    command = handover.command
    monkeypatch.setenv("PYTHONPATH", kit_environment()["PYTHONPATH"])
    monkeypatch.setattr(engine_key, "lacks_tensorrt", lambda: False)
    monkeypatch.setattr(engine_key, "key_of_graph", key)
    monkeypatch.setattr(handover, "_open_plan", open_plan)
    monkeypatch.setattr(handover, "command", lambda path, precision: program + command(path, precision)[3:])


def built(how: str, model: bytes) -> bytes:
    """The plan that such a build makes."""
    return {"wrong": bundles.graph(gain=20.0), "nan": bundles.graph(broken="nan")}.get(how, model)


def _build(how: str) -> Callable[..., Any]:
    def build(trt: ModuleType, model: bytes, *, progress: Callable[[str, float], None], **options: Any) -> Any:
        with Path(os.environ[STARTS]).open("a") as file:
            file.write(f"{os.getpid()}\n")
        for step in range(5):
            progress("choosing kernels", step / 5)
            time.sleep(60 if how == "slow" and step == 2 else 0.05)
            if how == "crash" and step == 3:
                os.kill(os.getpid(), signal.SIGSEGV)
        if how == "refuses":
            raise BackendError("node /net/conv: no kernel to build it", hint="export it again")
        if how == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        report = {"seconds": 0.25, "version": "10.3.0", "layers": []}
        return SimpleNamespace(plan=built(how, model), report=lambda: report)

    return build


def _main() -> int:
    from medtex_edge.cli import main
    from medtex_edge.export.tensorrt import builder
    from medtex_edge.runtime.backend.tensorrt import runner

    engine_key.key_of_graph, handover._open_plan = key, open_plan
    runner.module = lambda: ModuleType("tensorrt")
    builder.build = _build(sys.argv[1])  # type: ignore[assignment]
    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(_main())
