"""Which backend serves a run, by what is installed, cached and can be built on this device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bundles
import cv2
import engine_kit
import numpy as np
import numpy.typing as npt
import pytest
import streams
from handover_kit import answer, builds, opened, until
from kit_environment import kit_environment

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.errors import BackendError, MedtexError, SettingsError
from medtex_edge.runtime import console
from medtex_edge.runtime.backend import Outputs, handover, onnxruntime
from medtex_edge.runtime.backend.handover import EngineBuild, Handover
from medtex_edge.runtime.engines import key as engine_key
from medtex_edge.runtime.engines.cache import Cache
from medtex_edge.runtime.engines.key import EngineKey
from medtex_edge.runtime.reading import Verdict

pytestmark = pytest.mark.usefixtures("own_device")


def test_a_device_without_tensorrt_is_served_by_onnx_runtime_without_a_word(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_key, "lacks_tensorrt", lambda: True)
    backend, messages = opened(bundle)
    with backend:
        assert backend.name == "onnxruntime:CPUExecutionProvider:fp32"
    assert messages == []


def test_tensorrt_that_does_not_work_is_an_error_where_requested_and_a_message_where_not(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph_sha256: str, precision: str) -> EngineKey:
        raise BackendError("pycuda is missing", hint="install it")

    engine_kit.give_device(monkeypatch)
    monkeypatch.setattr(engine_key, "key_of_graph", broken)
    backend, messages = opened(bundle)
    with backend:
        assert backend.name.startswith("onnxruntime")
    assert messages == ["pycuda is missing (install it); ONNX Runtime serves"]
    for options in ({"name": "tensorrt"}, {"require": True}):
        with pytest.raises(BackendError, match="pycuda"):
            opened(bundle, **options)
    with pytest.raises(SettingsError, match="require-tensorrt"):
        opened(bundle, "onnxruntime", require=True)


def test_an_engine_that_is_there_serves_from_the_first_frame(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_kit.give_device(monkeypatch)
    with pytest.raises(BackendError, match="no engine of tiny") as caught:
        opened(bundle, require=True)
    assert caught.value.hint == f"medtex-edge engine build {bundle.path} --precision fp16"
    Cache().put(engine_kit.key_of(bundle), bundle.model("fp16"), {})
    for options in ({"name": "tensorrt"}, {"name": "auto"}, {"require": True}, {"precision": "fp16"}):
        backend, messages = opened(bundle, **options)
        with backend:
            assert backend.name.endswith(":engine")
        assert messages == []
    backend, _ = opened(bundle, precision="fp32")
    with backend:
        assert isinstance(backend, Handover), "fp32 has no engine yet"


@pytest.mark.parametrize("how", ["wrong", "nan"])
def test_an_engine_that_gives_wrong_answers_never_serves_and_is_not_built_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    engine_kit.give_device(monkeypatch)
    Cache().put(engine_kit.key_of(bundle), engine_kit.built(how, b""), {})
    for fragment in ("expected numbers in 0..1" if how == "nan" else "probabilities differ", "was refused: "):
        backend, messages = opened(bundle)
        with backend:
            assert backend.name == "onnxruntime:CPUExecutionProvider:fp32"
            assert not isinstance(backend, Handover)
        assert len(messages) == 1
        assert fragment in messages[0]
    assert "--again" in messages[0]
    assert [entry.state for entry in Cache().list()] == ["refused"]
    with pytest.raises(MedtexError, match="was refused"):
        opened(bundle, require=True)


@pytest.mark.parametrize("damage", ["corrupt", "does not load"])
def test_an_engine_that_is_damaged_is_built_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    engine_kit.give_device(monkeypatch)
    path = Cache().put(engine_kit.key_of(bundle), b"does not load", {})
    if damage == "corrupt":
        path.write_bytes(path.read_bytes()[:-1])
    backend, messages = opened(bundle)
    with backend:
        assert isinstance(backend, Handover)
        assert len(messages) == 1
        assert not path.exists()
        backend.begin()
        until(lambda: answer(backend) is not None and backend.name.endswith(":engine"))
    assert len(builds()) == 1
    assert [entry.state for entry in Cache().list()] == ["ready"]


@pytest.mark.parametrize(("how", "fragment"), [
    ("wrong", "the engine could not be built: .*tiny.medtex: this device"),
    ("crash", "the engine's build was ended by SIGSEGV"),
    ("refuses", "no kernel to build it (export it again); the run goes on"),
    ("full", "the engine could not be kept: cannot write"),
])  # fmt: skip
def test_however_a_build_fails_the_run_goes_on_and_reports_it_once(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, how: str, fragment: str
) -> None:
    engine_kit.give_device(monkeypatch, how)
    backend, messages = opened(bundle)
    with backend:
        assert isinstance(backend, Handover)
        before = answer(backend)
        backend.begin()
        until(lambda: backend.notes)
        assert np.array_equal(answer(backend), before)
    assert len(messages) == 2
    assert all(part in messages[1] for part in fragment.split(".*"))
    assert [entry.state for entry in Cache().list()] == (["refused"] if how == "wrong" else [])


def test_closing_ends_a_build_that_runs_at_once_and_leaves_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_kit.give_device(monkeypatch, "slow")
    backend, messages = opened(bundle)
    with backend:
        assert isinstance(backend, Handover)
        backend.begin()
        until(lambda: backend.progress == "40%: choosing kernels")
        (builder,) = builds()
    with pytest.raises(ProcessLookupError):
        os.kill(builder, 0)
    assert [path.name for path in Cache().folder.iterdir()] == [".lock"]
    assert len(messages) == 1


def test_a_build_that_ended_well_and_left_no_engine_is_no_engine(
    bundle: Bundle, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "command", lambda path, precision: [sys.executable, "-c", "pass"])
    preparation = EngineBuild(bundle, engine_kit.key_of(bundle), Cache())
    with Handover(onnxruntime.open(bundle, threads=1), preparation, messages.append) as backend:
        backend.begin()
        until(lambda: backend.notes)
    assert "no engine of tiny.medtex (fp16) on this device yet" in messages[1]


def camera() -> streams.Camera:
    return streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40), rate=20)


def test_a_run_on_a_camera_switches_over_and_the_next_one_begins_with_the_engine(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine_kit.give_device(monkeypatch)
    source = camera()
    infer = Handover.infer

    def counted(self: Handover, image: npt.NDArray[np.uint8]) -> Outputs:
        # The run ends with the stream, which ends some frames after the switch.
        if self.name.endswith(":engine"):
            threading.Timer(0.3, source.off).start()
        return infer(self, image)

    monkeypatch.setattr(Handover, "infer", counted)
    arguments = ["run", str(bundle.path), "--source", source.url, "--no-display", "--json"]
    try:
        assert main([*arguments, "--retries", "0"]) in (0, 6)
    finally:
        source.off()
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["backend"].endswith(":engine")
    assert f"by onnxruntime:CPUExecutionProvider:fp32, then by {summary['backend']}" in summary["notes"][0]
    assert captured.err.count("is being built") == 1
    source = camera()
    try:
        assert main([*arguments[:3], source.url, *arguments[4:], "--max-frames", "3", "--require-tensorrt"]) == 0
    finally:
        source.off()
    summary = json.loads(capsys.readouterr().out)
    assert summary["backend"].endswith(":engine")
    assert summary["notes"] == []
    assert len(builds()) == 1


def test_photographs_are_read_by_one_backend_and_the_command_that_builds_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine_kit.give_device(monkeypatch)
    cv2.imwrite("eye.png", bundles.disc(240, width=320))
    assert main(["run", str(bundle.path), "--source", "eye.png", "--no-display"]) == 0
    assert f"medtex-edge engine build {bundle.path}" in capsys.readouterr().err
    assert builds() == []
    assert main(["run", str(bundle.path), "--source", "eye.png", "--no-display", "--require-tensorrt"]) == 7


def test_the_status_line_shows_the_progress_of_the_engine() -> None:
    lines: list[str] = []
    line = SimpleNamespace(update=lines.append, start=lambda: None, stop=lambda: None)
    terminal: Any = SimpleNamespace(is_terminal=True, status=lambda text: line)
    source: Any = SimpleNamespace(stream=True, name="camera 0")
    reading = SimpleNamespace(frame=7, verdict=Verdict.REFERABLE, referable_probability=0.8, age_ms=30.0)
    pipeline = SimpleNamespace(lost_s=0.0, last=reading, frames_per_second=25.0)
    for progress in ("40%: choosing kernels", ""):
        with console.Status(terminal, source, lines.append) as status:
            status.tick(pipeline, progress)
    assert "25 frames/s  engine 40%: choosing kernels  (Ctrl-C" in lines[0]
    assert "25 frames/s  (Ctrl-C" in lines[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_ends_its_builder(bundle: Bundle, number: signal.Signals) -> None:
    source = camera()
    code = (
        "import pytest, sys, engine_kit\nfrom medtex_edge.cli import main\n"
        "engine_kit.give_device(pytest.MonkeyPatch(), 'slow')\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "run", str(bundle.path), "--source", source.url, "--no-display"]
    environment = kit_environment()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(builds)
        (builder,) = builds()
        child.send_signal(number)
        assert child.wait(timeout=20) == (0 if number is signal.SIGINT else -signal.SIGKILL)
    finally:
        child.kill()
        source.off()

    def gone() -> bool:
        try:
            return Path(f"/proc/{builder}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone)
