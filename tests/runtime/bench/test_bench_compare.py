from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import bundles
import cv2
import engine_kit
import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.bundle import write_bundle
from medtex_edge.cli import main
from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend import Backend, Outputs, onnxruntime
from medtex_edge.runtime.bench import bench, compare
from medtex_edge.runtime.bench import report as bench_report
from medtex_edge.runtime.bench.timings import WARM_UP
from medtex_edge.runtime.engines import key as engine_key
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.scorer import Scorer

FAST = ("--size", "320x240", "--frames", "24")
FRAMES = 24
SEEN = WARM_UP + FRAMES + 3 * compare.SETTLE  # in three turns


@pytest.fixture(autouse=True)
def _beside_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "providers", lambda: [onnxruntime.CPU])  # whichever wheel is installed
    write("three.medtex", fp16=bundles.graph(gain=60.5), int8=bundles.graph(gain=59.5))


def write(name: str, **others: bytes) -> None:
    """A bundle with an fp32 graph, whose answers are the golden ones, and others."""
    agreed, model = bundles.contract(), bundles.graph()
    write_bundle(Path(name), agreed, {"fp32": model, **others}, bundles.golden(model, agreed), {}, {})


def report(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["bench", *FAST, "--json", "-", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def rows(found: dict[str, Any], *, measured: bool = True) -> list[tuple[str, str | None]]:
    return [(row["backend"], row["precision"]) for row in found["rows"] if bool(row["in_turn"]) == measured]


class Behind:
    """A backend that does something more; put behind every one that is opened."""

    def __init__(self, real: Backend) -> None:
        self.real, self.name, self.calls = real, real.name, 0

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        self.calls += 1
        return self.real.infer(image)

    def close(self) -> None:
        self.real.close()


class OnGpu(Behind):
    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        outputs = super().infer(image)
        return Outputs(outputs.probabilities, outputs.saliency, 0.004)


def put_behind(monkeypatch: pytest.MonkeyPatch, kind: type[Behind]) -> list[Behind]:
    """Those that were opened, in their order."""
    real, made = compare.open_backend, []

    def opened(*arguments: Any, **options: Any) -> Behind:
        made.append(kind(real(*arguments, **options)))
        return made[-1]

    monkeypatch.setattr(compare, "open_backend", opened)
    return made


def test_every_precision_is_measured_and_compared_with_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "--backend", "all")
    assert found["schema"] == "medtex-edge/bench-all/1"
    assert rows(found) == [("onnxruntime", "fp32"), ("onnxruntime", "fp16"), ("onnxruntime", "int8")]
    for row in found["rows"][:3]:
        assert row["in_turn"]["scored"] == FRAMES
        stages = row["in_turn"]["latency_ms"]
        assert stages["infer"]["count"] == stages["whole"]["count"] == FRAMES
        assert stages["infer"]["median"] <= stages["whole"]["max"]
        assert row["model_mb"] > 0
        assert row["golden"]["count"] == 2
    assert found["rows"][0]["times_first"] == {"infer": 1.0, "whole": 1.0}
    assert found["rows"][0]["golden"]["probability"] < found["rows"][1]["golden"]["probability"] < 0.02


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_an_engine_that_is_missing_is_a_row_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: str) -> None:
        raise BackendError("no GPU that could serve", hint="plug one in")

    monkeypatch.setattr(engine_key, "key_of_graph", lacking)
    offered = [onnxruntime.CUDA, onnxruntime.CPU]
    monkeypatch.setattr(onnxruntime, "providers", lambda: offered)
    assert main(["bench", *FAST, "--backend", "all", "--json", "all.json", "--png", "all.png"]) == 0
    found = json.loads(Path("all.json").read_text())
    cuda = f"onnxruntime:{onnxruntime.CUDA}"
    assert rows(found, measured=False) == [(cuda, "fp32"), (cuda, "fp16"), (cuda, "int8"), ("tensorrt", None)]
    out = capsys.readouterr().out
    assert "not measured: tensorrt: no GPU that could serve (plug one in)" in out
    assert f"not measured: {cuda} fp16: " in out


def test_an_engine_without_its_plan_names_the_command_that_builds_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_key, "key_of_graph", engine_kit.key)
    found = report(capsys, "--backend", "all", "--precision", "fp16")
    assert rows(found) == [("onnxruntime", "fp16")]
    assert rows(found, measured=False) == [("tensorrt", "fp16")]
    assert "engine build three.medtex --precision fp16" in found["rows"][1]["hint"]


def test_wrong_answers_are_never_timed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write("wrong.medtex", fp16=bundles.graph(gain=20.0))
    opened = put_behind(monkeypatch, Behind)
    found = report(capsys, "wrong.medtex", "--precision", "all")
    assert rows(found) == [("onnxruntime", "fp32")]
    wrong = found["rows"][1]
    assert "does not give the answers" in wrong["error"]
    assert wrong["in_turn"] is wrong["golden"] is wrong["times_first"] is None
    assert [each.calls for each in opened] == [2 + SEEN, 2]  # the golden vectors alone


def test_the_first_row_that_was_measured_is_the_measure_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    write("wrong.medtex", fp16=bundles.graph(gain=20.0))
    found = report(capsys, "wrong.medtex", "--backend", "all")
    assert found["rows"][0]["times_first"]["whole"] == 1.0


def test_an_engine_that_breaks_down_is_out_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(Behind):
        def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
            if self.name.endswith("fp16") and self.calls == 20:
                raise BackendError("the GPU is lost")
            return super().infer(image)

    opened = put_behind(monkeypatch, Breaks)
    found = report(capsys, "--precision", "all")
    assert rows(found) == [("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    assert found["rows"][1]["error"] == "the GPU is lost"
    assert [each.calls for each in opened] == [2 + SEEN, 20, 2 + SEEN]


def test_nothing_to_measure_is_the_first_ones_error(capsys: pytest.CaptureFixture[str]) -> None:
    bundles.bundle(Path("drifts.medtex"), drift=0.3)
    assert main(["bench", "drifts.medtex", *FAST, "--backend", "all"]) == 3
    error = capsys.readouterr().err
    assert "nothing can be measured: onnxruntime fp32: " in error
    assert "does not give the answers" in error


def test_all_see_the_same_frames_in_turns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    images: dict[str, list[str]] = {}

    class Sees(Behind):
        def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
            order.append(self.name[-4:])
            images.setdefault(self.name, []).append(hashlib.sha256(image.tobytes()).hexdigest())
            return super().infer(image)

    put_behind(monkeypatch, Sees)
    report(capsys, "--precision", "all")
    first, *others = images.values()
    assert all(each == first for each in others)
    assert len(others) == 2
    assert len(set(first)) > 5
    turns = order[3 * (2 + WARM_UP) :]
    length = compare.SETTLE + compare.TURN
    begins = [turns[index] for index in range(0, 6 * length, length)]
    assert begins == ["fp32", "fp16", "int8", "int8", "fp16", "fp32"]


def test_one_precision_can_be_requested_and_has_to_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(report(capsys, "--backend", "all", "--precision", "int8")) == [("onnxruntime", "int8")]
    write("one.medtex")
    assert main(["bench", "one.medtex", *FAST, "--backend", "all", "--precision", "int8"]) == 3
    assert "int8" in capsys.readouterr().err


def test_a_black_source_is_nothing_to_compare_on(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("night.png", np.zeros((240, 320, 3), np.uint8))
    assert main(["bench", *FAST, "--backend", "all", "--source", "night.png"]) == 5
    assert "none of 24 frames was scored (24 black)" in capsys.readouterr().err


def test_terminal_and_picture_show_every_engine_and_the_gpu_within_the_inference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_behind(monkeypatch, OnGpu)
    assert main(["bench", *FAST, "--backend", "all", "--json", "all.json", "--png", "all.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split() for line in lines if line.strip().startswith(("onnxruntime f", "onnxruntime i"))]
    assert [(line[0], line[1], line[4]) for line in shown] == [
        ("onnxruntime", "fp32", "0.004"), ("onnxruntime", "fp16", "0.004"), ("onnxruntime", "int8", "0.004"),
    ]  # fmt: skip
    stages = json.loads(Path("all.json").read_text())["rows"][0]["in_turn"]["latency_ms"]
    picture = cv2.imread("all.png")
    assert picture is not None
    for stage, colour in bench_report.COLOURS.items():
        assert bool((picture == colour).all(axis=2).any()) == (stage in stages)
    assert "gpu" in stages


def test_a_reading_has_the_time_of_the_gpu_where_the_engine_measures_it() -> None:
    frame = Frame(bundles.disc(lesion=True))
    with onnxruntime.open_graph(bundles.graph(), bundles.contract()) as backend:
        known = Scorer(OnGpu(backend), bundles.contract()).score(frame)  # type: ignore[arg-type]
        unknown = Scorer(backend, bundles.contract()).score(frame)
    assert known.latency_ms["gpu"] == 0.004
    assert "gpu" not in unknown.latency_ms


def test_the_gpu_is_drawn_where_the_inference_begins() -> None:
    stages = {name: {"median": 1.0 + i} for i, name in enumerate(("quality", "infer", "draw", "whole"))}
    assert bench_report.spans({**stages, "gpu": {"median": 0.5}}) == [
        ("quality", 0.0, 1.0), ("infer", 1.0, 3.0), ("gpu", 1.0, 1.5), ("draw", 3.0, 6.0), ("whole", 0.0, 4.0)
    ]  # fmt: skip


def test_the_stages_of_one_engine_show_the_gpu_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = bench.open_backend

    class InWith(OnGpu):
        def __enter__(self) -> InWith:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    monkeypatch.setattr(bench, "open_backend", lambda *a, **o: InWith(real(*a, **o)))
    assert main(["bench", *FAST, "--json", "one.json", "--png", "one.png"]) == 0
    stages = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert stages == ["quality", "prepare", "infer", "gpu", "draw", "other", "whole"]
    found = json.loads(Path("one.json").read_text())
    assert found["in_turn"]["latency_ms"]["gpu"]["median"] == 0.004
    assert found["in_threads"]["latency_ms"]["gpu"]["count"] >= FRAMES
    parts = sum(found["in_turn"]["latency_ms"][name]["median"] for name in ("quality", "prepare", "infer", "draw"))
    assert parts < 1.5 * found["in_turn"]["latency_ms"]["whole"]["p99"]  # the GPU's time is not counted twice
    assert (cv2.imread("one.png") == bench_report.COLOURS["gpu"]).all(axis=2).any()
