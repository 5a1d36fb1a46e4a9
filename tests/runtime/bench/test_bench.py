from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.peers import baselines, rounds
from benchmarks.peers import report as peers_report
from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.errors import SettingsError
from medtex_edge.image.geometry import LAYOUTS, crop_resize, find_field_of_view
from medtex_edge.runtime.bench import bench, timings
from medtex_edge.runtime.bench import machine as bench_machine
from medtex_edge.runtime.bench import report as bench_report
from medtex_edge.runtime.bench.bench import Ring, golden_stills, parse_size, to_layout
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.summary import Histogram

FAST = ("--size", "320x240", "--frames", "20")


@pytest.fixture(autouse=True)
def _beside_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundles.bundle(tmp_path / "tiny.medtex")


def report(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["bench", *FAST, "--json", "-", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("layout", bench.FORMATS)
def test_every_stage_is_measured_in_every_format(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "--format", layout)
    stages = found["in_turn"]["latency_ms"]
    assert set(stages) == set(timings.STAGES) - ({"convert"} if layout == "bgr" else set()) | {"whole"}
    for mode in ("in_turn", "in_threads"):
        assert found[mode]["scored"] == 20
        assert found[mode]["refused"] == {}
        assert found[mode]["frames_per_second"] > 0
    for figures in stages.values():
        assert figures["count"] == 20
        assert figures["median"] <= figures["p95"] <= figures["p99"] <= figures["max"]
    parts = sum(stages[stage]["median"] for stage in stages if stage not in ("whole", "other"))
    assert parts < 1.5 * stages["whole"]["p99"]


def test_the_report_describes_the_machine_and_the_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys)
    assert found["size"] == [320, 240]
    assert found["bundle_sha256"]
    assert found["memory"]["resident_mb"] > 10
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["backend"].startswith("onnxruntime")
    assert found["machine"]["versions"]["onnxruntime"]


def test_the_terminal_shows_a_bar_for_each_stage_and_the_picture_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *FAST, "--png", "bars.png", "--json", "bench.json"]) == 0
    out = capsys.readouterr().out
    for word in ("tiny.medtex", "quality", "prepare", "infer", "draw", "whole", "█", "frames/s", "per 1,000 frames"):
        assert word in out
    stages = json.loads(Path("bench.json").read_text())["in_turn"]["latency_ms"]
    picture = cv2.imread("bars.png")
    assert picture is not None
    # One colour per stage and none for what was not measured.
    for stage, colour in bench_report.COLOURS.items():
        assert bool((picture == colour).all(axis=2).any()) == (stage in stages)


def test_the_bars_lie_one_behind_the_other() -> None:
    stages = {name: {"median": 1.0 + i} for i, name in enumerate(("quality", "infer", "draw", "whole"))}
    rows = bench_report.spans(stages)
    assert rows == [("quality", 0.0, 1.0), ("infer", 1.0, 3.0), ("draw", 3.0, 6.0), ("whole", 0.0, 4.0)]


def test_without_the_native_module_it_works_and_warns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medtex_edge", "bench", "--size", "160x120", "--frames", "10"],
        env=os.environ | {"MEDTEX_EDGE_NATIVE": "0"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NO NATIVE MODULE" in done.stdout


def test_refused_frames_are_counted_and_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("eyes").mkdir()
    cv2.imwrite("eyes/a.png", bundles.disc(240, width=320, lesion=True))
    cv2.imwrite("eyes/b.png", np.zeros((240, 320, 3), np.uint8))
    found = report(capsys, "--source", "eyes")["in_turn"]
    assert found["refused"]["black"] > 0
    assert found["scored"] + found["refused"]["black"] == 20
    assert {figures["count"] for figures in found["latency_ms"].values()} == {found["scored"]}


def test_nothing_scored_is_an_error_with_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("night.png", np.zeros((240, 320, 3), np.uint8))
    assert main(["bench", *FAST, "--source", "night.png"]) == 5
    error = capsys.readouterr().err
    assert "none of 20 frames was scored (20 black)" in error
    assert "--source" in error


def test_a_source_is_measured_at_its_own_size(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("eye.png", bundles.disc(200, width=300, lesion=True))
    assert main(["bench", "--frames", "10", "--source", "eye.png", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == [300, 200]
    assert found["source"] == "eye.png"


@pytest.mark.parametrize(
    ("options", "code", "fragment"),
    [
        (("--size", "wide"), 2, "WIDTHxHEIGHT"),
        (("--size", "20x20"), 2, "64 to 7680"),
        (("--size", "321x240", "--format", "nv12"), 2, "even sides"),
        (("--backend", "abacus"), 2, "abacus"),
        (("--png", "bars.jpg"), 2, ".png"),
        (("--source", "nowhere"), 6, "nowhere"),
        (("missing.medtex",), 3, "missing.medtex"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    options: tuple[str, ...], code: int, fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options]) == code
    assert fragment in capsys.readouterr().err


def test_a_small_frame_is_no_eye_in_motion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--size", "96x96", "--frames", "30", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["in_turn"]["refused"] == {}


@pytest.mark.parametrize("text", ["1920x1080", "1920X1080", "1920×1080"])
def test_a_size_is_width_times_height(text: str) -> None:
    assert parse_size(text) == (1920, 1080)


def test_no_frame_repeats_the_one_before_and_all_have_their_layouts_shape() -> None:
    stills = golden_stills(Bundle.open("tiny.medtex"))
    shapes = {"bgr": (240, 320, 3), "grey": (240, 320), "yuyv": (240, 320, 2), "nv12": (360, 320)}
    for layout, shape in shapes.items():
        assert layout in LAYOUTS
        ring, slot = Ring(stills, (320, 240), layout, whole=False), Frame()
        before = np.zeros(shape, np.uint8)
        for _ in range(3 * len(ring.frames)):
            assert ring.read(slot)
            assert slot.pixels is not None
            assert slot.pixels.shape == shape
            assert slot.layout == layout
            assert not np.array_equal(slot.pixels, before)
            before = slot.pixels.copy()


def test_frames_that_a_run_draws_into_stay_as_they_were() -> None:
    ring, slot = Ring(golden_stills(Bundle.open("tiny.medtex")), (320, 240), "bgr", whole=False), Frame()
    kept = [frame.copy() for frame in ring.frames]
    for _ in range(len(kept) + 1):
        ring.read(slot)
        assert slot.pixels is not None
        slot.pixels[:] = 0
    assert all(np.array_equal(frame, copy) for frame, copy in zip(ring.frames, kept, strict=True))


@pytest.mark.parametrize("layout", ["nv12", "yuyv"])
def test_a_converted_frame_shows_the_model_the_same_picture(layout: str) -> None:
    bgr = bundles.disc(240, width=320, lesion=True)
    box = find_field_of_view(bgr, layout="bgr")
    direct_pixels = crop_resize(bgr, box, 64, 64, layout="bgr").astype(int)
    converted = crop_resize(to_layout(bgr, layout), box, 64, 64, layout=layout).astype(int)
    assert np.abs(direct_pixels - converted).mean() < 3


def test_an_odd_side_has_no_chroma() -> None:
    with pytest.raises(SettingsError):
        Ring([bundles.disc(64)], (321, 240), "yuyv", whole=False)


def test_a_buffer_made_once_is_no_growth_and_a_leak_is() -> None:
    once = [(index, 100_000_000 + 14_000_000 * (index > 100)) for index in range(0, 300, 8)]
    leak = [(index, 100_000_000 + 2_000 * index) for index in range(0, 300, 8)]
    assert (found := bench._memory(once)) is not None
    assert found["growth_mb_per_1000_frames"] == 0
    assert (found := bench._memory(leak)) is not None
    assert found["growth_mb_per_1000_frames"] == pytest.approx(2, abs=0.01)


def test_a_percentile_is_right_to_two_per_cent() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 1001):
        histogram.add(float(milliseconds))
    figures = histogram.to_json()
    assert figures["p99"] == pytest.approx(990, rel=0.02)
    assert figures["median"] == pytest.approx(500, rel=0.02)
    assert figures["max"] == 1000


def test_what_speaks_against_the_figures_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = bench_machine.describe("engine", "fp32") | {"load": 2.5, "governor": "schedutil", "native": False}
    monkeypatch.setattr(bench_machine, "throttled", lambda: 3)
    fragment = " ".join(bench_machine.warnings(machine, 1))
    for word in ("load 2.5", "schedutil", "native module", "slowed down"):
        assert word in fragment
    calm = machine | {"load": 0.0, "governor": None, "native": True}
    assert bench_machine.warnings(calm, 3) == []


def test_the_baseline_answers_as_we_do() -> None:
    bundle = Bundle.open("tiny.medtex")
    engine = baselines.by_onnxruntime(bundle.model(), 1)
    for lesion in (False, True):
        frame = bundles.disc(240, width=320, lesion=lesion)
        box = find_field_of_view(frame, layout="bgr")
        image, (left, top, side) = baselines.Pixels().prepare(frame, bundles.SIZE)
        assert max(abs(left - box.left), abs(top - box.top), abs(side - box.side)) <= 6
        probabilities, _ = engine(image)
        ours, _ = engine(crop_resize(frame, box, bundles.SIZE, bundles.SIZE, layout="bgr"))
        assert probabilities.argmax() == ours.argmax()
        drawn = frame.copy()
        taken = baselines.Baseline(engine, bundle.contract)(Frame(drawn, "bgr"))
        assert set(taken) == {*baselines.PARTS, "whole"}
        assert (drawn != frame).any()


def case(size: tuple[int, int], ours: float, baseline: float) -> rounds.Case:
    def times(pixels: float) -> dict[str, list[float]]:
        parts = {**dict.fromkeys(baselines.PARTS, [0.0] * 3), "infer": [10.0] * 3, "overlay": [pixels] * 3}
        return {**parts, "whole": [10.0 + pixels] * 3}

    return rounds.Case(size, "bgr", {rounds.OURS: times(ours), "a": times(baseline)})


def test_each_target_has_its_measured_value() -> None:
    rows = peers_report.targets([case((640, 480), 1.0, 8.0)])
    found = {row["what"].split(": ")[1]: (row["median"], row["met"]) for row in rows}
    assert found["everything that is not inference, share of (a)'s"] == (0.125, True)
    assert found["the whole over inference alone"] == (1.1, True)
    slow = peers_report.targets([case((640, 480), 4.0, 8.0)])
    assert [row["met"] for row in slow] == [False, False]


def test_one_bar_is_drawn_for_every_contender(tmp_path: Path) -> None:
    summaries = [peers_report.summary(case((640, 480), 1.0, 8.0))]
    value = {"cases": summaries, "rounds": 3, "threads": 1, "machine": {"cpu": "test"}}
    peers_report.picture(value, tmp_path / "peers.png")
    picture: npt.NDArray[np.uint8] | None = cv2.imread(str(tmp_path / "peers.png"))
    assert picture is not None
    assert picture.shape[0] > 100
