from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import bundles
import cv2
import numpy as np
import pytest
import streams
from video_kit import write_video

from medtex_edge.cli import main

REAL = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundles.bundle(tmp_path / "tiny.medtex")


def photograph(path: Path, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), bundles.disc(240, width=320, **how))
    return path


def rows(path: str = "r.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def hostile(folder: Path) -> None:
    """One of everything that a folder of photographs may hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    folder.mkdir()
    photograph(folder / "good.png")
    good = bundles.disc(240, width=320, lesion=True)
    cv2.imwrite(str(folder / "grey16.tif"), cv2.cvtColor(good, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 16)
    cv2.imwrite(str(folder / "rgba.png"), np.dstack([good, np.full(good.shape[:2], 255, np.uint8)]))
    cv2.imwrite(str(folder / "one.png"), np.full((1, 1, 3), 90, np.uint8))
    size = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 60001)) + chunk(b"IEND", b"")
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    data = cv2.imencode(".jpg", good)[1].tobytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("no photograph")


def test_a_folder_of_photographs_gets_a_reading_and_an_overlay_each(capsys: pytest.CaptureFixture[str]) -> None:
    photograph(Path("in/ill.png"), lesion=True)
    photograph(Path("in/well.png"))
    assert main(["run", "--source", "in", "--no-display", "--readings", "r.jsonl", "--save", "out"]) == 0
    assert [(row["verdict"], row["label"]) for row in rows()] == [("referable", "severe"), ("not referable", "healthy")]
    assert sorted(path.name for path in Path("out").iterdir()) == ["ill.png", "well.png"]
    drawn, plain = cv2.imread("out/ill.png"), cv2.imread("in/ill.png")
    assert drawn is not None
    assert plain is not None
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    out = capsys.readouterr().out
    assert "in/ill.png" in out
    assert "2 read, 2 scored" in out


def test_every_reading_has_the_fields_of_its_schema() -> None:
    photograph(Path("eye.png"))
    assert main(["run", "tiny.medtex", "--source", "eye.png", "--no-display", "--readings", "r.jsonl"]) == 0
    row = rows()[0]
    assert set(row) == {
        "schema", "source", "frame", "captured", "age_ms", "size", "verdict", "reason", "detail", "label",
        "probabilities", "referable_probability", "frame_referable_probability", "smoothed_frames", "threshold",
        "saliency_area", "field_of_view", "quality", "latency_ms", "bundle",
    }  # fmt: skip
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert set(row["latency_ms"]) == {"read", "quality", "prepare", "infer"}
    assert len(row["bundle"]) == 64


def test_hostile_files_in_a_folder_are_refused_by_name_and_the_others_are_read() -> None:
    hostile(Path("in"))
    assert main(["run", "--source", "in", "--no-display", "--readings", "r.jsonl", "--save", "out"]) == 0
    reasons = {Path(row["source"]).name: row["reason"] for row in rows()}
    assert reasons == {
        "cut.jpg": "unreadable", "good.png": None, "grey16.tif": None, "huge.png": "unreadable",
        "one.png": "no field of view", "rgba.png": None, "text.jpg": "unreadable",
    }  # fmt: skip
    assert all(Path(row["source"]).name in row["detail"] for row in rows() if row["reason"] == "unreadable")


@pytest.mark.parametrize("name", ["cut.jpg", "huge.png", "text.jpg"])
def test_a_single_hostile_file_is_one_clear_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    hostile(Path("in"))
    assert main(["run", "--source", f"in/{name}", "--no-display", "--readings", "r.jsonl", "--json"]) == 5
    captured = capsys.readouterr()
    assert f"error: {name}" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_folder_in_which_nothing_can_be_read_is_an_error_after_its_readings() -> None:
    Path("in").mkdir()
    for name in ("a.jpg", "b.png"):
        Path("in", name).write_text("no photograph")
    assert main(["run", "--source", "in", "--no-display", "--readings", "r.jsonl"]) == 5
    assert [row["reason"] for row in rows()] == ["unreadable", "unreadable"]


def test_an_empty_folder_is_an_error() -> None:
    Path("in").mkdir()
    assert main(["run", "--source", "in", "--no-display"]) == 5


def test_a_video_becomes_a_video_with_its_summary_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    write_video(Path("eye.avi"), 15)
    arguments = ["run", "--source", "eye.avi", "--no-display", "--save", "o.mp4", "--readings", "r.jsonl", "--json"]
    assert main(arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ended"] == "source ended"
    assert summary["frames"] == {"read": 15, "scored": 15, "dropped": 0, "refused": {}}
    assert set(summary["latency_ms"]) == {"read", "quality", "prepare", "infer", "age", "draw", "write"}
    assert [row["frame"] for row in rows()] == list(range(15))
    saved = cv2.VideoCapture("o.mp4")
    assert saved.get(cv2.CAP_PROP_FRAME_COUNT) == 15
    assert saved.get(cv2.CAP_PROP_FPS) == 25


def test_black_blurred_and_repeated_frames_of_a_video_are_not_scored() -> None:
    writer = cv2.VideoWriter("eye.avi", cv2.VideoWriter.fourcc(*"FFV1"), 25, (320, 240))  # lossless
    good = bundles.disc(240, width=320)
    for frame in (good, good, cv2.GaussianBlur(good, (0, 0), 4.5), good * 0, good // 6, bundles.disc(240, width=320)):
        writer.write(frame)
    writer.release()
    assert main(["run", "--source", "eye.avi", "--no-display", "--readings", "r.jsonl"]) == 0
    assert [row["reason"] for row in rows()] == [None, "duplicate", "blurred", "black", "too dark", None]
    assert all(row["probabilities"] is None for row in rows() if row["reason"])


def test_equal_photographs_in_a_folder_are_no_duplicates() -> None:
    photograph(Path("in/a.png"))
    photograph(Path("in/b.png"))
    assert main(["run", "--source", "in", "--no-display", "--readings", "r.jsonl"]) == 0
    assert [row["reason"] for row in rows()] == [None, None]


def test_max_frames_ends_the_run() -> None:
    write_video(Path("eye.avi"), 15)
    arguments = ["run", "--source", "eye.avi", "--no-display", "--max-frames", "4", "--readings", "r.jsonl"]
    assert main(arguments) == 0
    assert len(rows()) == 4


def test_a_device_that_does_not_reproduce_the_golden_vectors_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    bundles.bundle(Path("drifted.medtex"), drift=0.3)
    photograph(Path("eye.png"))
    assert main(["run", "drifted.medtex", "--source", "eye.png", "--no-display", "--readings", "r.jsonl"]) == 3
    assert "does not give the answers" in capsys.readouterr().err
    assert not Path("r.jsonl").exists()


def test_a_missing_camera_says_what_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--camera", "9999", "--no-display"]) == 6
    err = capsys.readouterr().err
    assert "/dev/video9999 by V4L2: no such device" in err
    assert "hint:" in err


def test_camera_alone_means_camera_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = []

    def opened(spec: str, settings: object) -> None:
        specs.append(spec)
        raise KeyboardInterrupt

    monkeypatch.setattr("medtex_edge.runtime.session.open_camera", opened)
    assert main(["run", "--camera", "--no-display"]) == 130
    assert specs == ["0"]


def test_neither_or_both_of_camera_and_source_name_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--no-display"]) == 2
    assert "--camera or --source" in capsys.readouterr().err
    assert main(["run", "--no-display", "--camera", "0", "--source", "x"]) == 2


def test_what_is_typed_wins_over_the_camera_of_medtex_toml() -> None:
    Path("medtex.toml").write_text('[run]\ncamera = "/dev/video77"\nno-display = true\n')
    photograph(Path("eye.png"))
    assert main(["run"]) == 6
    assert main(["run", "--source", "eye.png"]) == 0


def test_files_that_are_read_are_never_written_over() -> None:
    photograph(Path("eye.png"))
    write_video(Path("eye.avi"), 3)
    before = Path("eye.avi").read_bytes()
    assert main(["run", "--source", "eye.avi", "--no-display", "--save", "eye.avi"]) == 2
    assert main(["run", "--source", "eye.png", "--no-display", "--save", "."]) == 2
    assert main(["run", "--source", "eye.png", "--no-display", "--readings", "tiny.medtex"]) == 2
    assert main(["run", "--source", "eye.png", "--no-display", "--save", "out.mp4"]) == 2
    assert Path("eye.avi").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not on this system")
def test_a_full_disk_does_not_stop_the_run_but_its_exit_code_tells(capsys: pytest.CaptureFixture[str]) -> None:
    write_video(Path("eye.avi"), 6)
    arguments = ["run", "--source", "eye.avi", "--no-display", "--readings", "/dev/full", "--save", "o.mp4", "--json"]
    assert main(arguments) == 9
    captured = capsys.readouterr()
    assert captured.err.count("No space left on device; the run goes on") == 1
    summary = json.loads(captured.out)
    assert summary["frames"]["scored"] == 6
    assert [sink["lost"] for sink in summary["sinks"]] == [6, 0]
    assert Path("o.mp4").exists()


def test_without_a_display_it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    photograph(Path("eye.png"))
    assert main(["run", "--source", "eye.png"]) == 0
    assert "no window: neither DISPLAY" in capsys.readouterr().err


def test_a_display_that_does_not_answer_is_no_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    photograph(Path("eye.png"))
    assert main(["run", "--source", "eye.png"]) == 0
    assert "nothing answers there" in capsys.readouterr().err


def test_a_stream_that_is_cut_and_comes_back_is_read_on_and_nothing_is_scored_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    camera = streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40), rate=20)

    def pull_the_plug() -> None:
        time.sleep(1.2)
        camera.off()
        time.sleep(0.5)
        camera.on()

    plug = threading.Thread(target=pull_the_plug)
    plug.start()
    arguments = ["run", "--source", camera.url, "--no-display", "--max-frames", "40", "--readings", "r.jsonl", "--json"]
    try:
        assert main(arguments) == 0
    finally:
        plug.join()
        camera.off()
    summary = json.loads(capsys.readouterr().out)
    assert summary["recoveries"] == 1
    assert len(rows()) == 40
    assert [row["frame"] for row in rows()] == sorted({row["frame"] for row in rows()})
    assert all(row["age_ms"] < 1000 for row in rows() if row["label"])


def test_a_stream_that_repeats_its_picture_is_scored_once() -> None:
    still = bundles.disc(120, width=160)
    camera = streams.Camera(lambda index: still)
    try:
        arguments = ["run", "--source", camera.url, "--no-display", "--max-frames", "10", "--readings", "r.jsonl"]
        assert main(arguments) == 0
    finally:
        camera.off()
    assert [row["reason"] for row in rows()] == [None] + ["duplicate"] * 9


def test_a_stream_that_ends_for_good_is_an_error_with_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    camera = streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40))
    timer = threading.Timer(0.8, camera.off)
    timer.start()
    arguments = ["run", "--source", camera.url, "--no-display", "--retries", "2", "--readings", "r.jsonl", "--json"]
    assert main(arguments) == 6
    timer.join()
    captured = capsys.readouterr()
    assert "stopped giving frames" in captured.err
    assert json.loads(captured.out)["ended"] == "failed"
    assert len(rows()) > 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_stream_with_whole_files_and_a_summary(number: signal.Signals) -> None:
    camera = streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40))
    command = [sys.executable, "-m", "medtex_edge", "run", "--source", camera.url, "--no-display", "--json"]
    command += ["--readings", "r.jsonl", "--save", "o.avi"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    try:
        end = time.monotonic() + 20
        while camera.sent < 20 and time.monotonic() < end:
            time.sleep(0.05)
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
        camera.off()
    assert child.returncode == 0, err
    summary = json.loads(out)
    assert summary["ended"] == "interrupted"
    assert summary["frames"]["scored"] > 0
    assert len(rows()) == sum(summary["verdicts"].values())
    assert cv2.VideoCapture("o.avi").isOpened()
    assert b"Traceback" not in err


def test_the_runtime_imports_nothing_heavy() -> None:
    modules = ["", ".pipeline", ".session", ".display.overlay", ".capture", ".sources.camera", ".display.window"]
    modules += [".doctor.machine", ".backend", ".backend.golden_check", ".backend.onnxruntime", ".scorer"]
    modules += [".sinks.base", ".sources.open"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module('medtex_edge.runtime' + name)\n"
        "heavy = {'torch', 'tensorrt', 'timm', 'matplotlib', 'sklearn', 'kornia', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photographs (../shared/data) are not on this machine")
def test_real_photographs_with_lesions_are_all_graded() -> None:
    folder = REAL / "idrid_lesions" / "images"
    assert main(["run", "--source", str(folder), "--no-display", "--readings", "r.jsonl", "--save", "out"]) == 0
    assert len(rows()) == 34
    assert all(row["reason"] is None for row in rows())
    assert len(list(Path("out").iterdir())) == 34
