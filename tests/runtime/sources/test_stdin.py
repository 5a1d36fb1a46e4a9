from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bundles
import cv2
import numpy as np
import pytest

from medtex_edge.cli import main
from medtex_edge.errors import SettingsError, SourceError
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.sources.base import Ended, FrameSource
from medtex_edge.runtime.sources.open import open_source

DISCS = [bundles.disc(120, width=160, seed=seed) for seed in range(6)]
JPEGS = [cv2.imencode(".jpg", disc)[1].tobytes() for disc in DISCS]
SIZE = (160, 120)


class Pipe:
    """What is written here comes in on standard input."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read, self._write = os.pipe()
        self._file = os.fdopen(self._read, "rb", buffering=0)
        monkeypatch.setattr(sys, "stdin", self._file)

    def write(self, data: bytes) -> None:
        # By a thread: a pipe takes 64 KiB before it blocks.
        threading.Thread(target=self._all, args=(data,), daemon=True).start()
        time.sleep(0.05)

    def _all(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._write, data) :]

    def end(self) -> None:
        os.close(self._write)
        self._write = -1

    def close(self) -> None:
        if self._write >= 0:
            self.end()
        self._file.close()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe(monkeypatch)
    yield pipe
    pipe.close()


def read(source: FrameSource, frame: Frame | None = None) -> Frame:
    frame = frame or Frame()
    assert source.read(frame)
    return frame


def test_mjpeg_comes_as_bgr_and_ends_with_its_writer(pipe: Pipe) -> None:
    source = open_source("-")
    assert (source.live, source.stream) == (True, True)
    pipe.write(JPEGS[0])
    frame = read(source)
    assert frame.pixels is not None
    assert (frame.layout, frame.pixels.shape, frame.source) == ("bgr", (120, 160, 3), "standard input")
    assert np.abs(frame.pixels.astype(int) - DISCS[0]).mean() < 5
    pipe.end()
    assert not source.read(frame)
    with pytest.raises(Ended):
        source.reopen()


def test_of_what_waits_in_the_pipe_the_newest_picture_is_taken(pipe: Pipe) -> None:
    source = open_source("-")
    pipe.write(b"".join(JPEGS[:3]))
    pixels = read(source).pixels
    assert pixels is not None
    assert np.abs(pixels.astype(int) - DISCS[2]).mean() < 5


def test_a_broken_picture_is_left_out_and_counted(pipe: Pipe) -> None:
    source = open_source("-")
    half = JPEGS[0][: len(JPEGS[0]) // 2]
    pipe.write(half + b"\xff\xd9")
    threading.Timer(0.2, lambda: pipe.write(half + JPEGS[1])).start()
    pixels = read(source).pixels
    assert pixels is not None
    assert np.abs(pixels.astype(int) - DISCS[1]).mean() < 5
    assert source.notes == ["standard input: 2 damaged frames were left out"]


def test_a_frame_that_was_half_written_when_the_writer_stopped_is_old_when_it_is_whole(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtex_edge.runtime.sources.bytestream.QUIET_S", 0.2)
    monkeypatch.setattr("medtex_edge.runtime.sources.stdin.QUIET_S", 0.2)
    for arguments, data in (({}, JPEGS[0]), ({"kind": "bgr", "size": SIZE}, DISCS[0].tobytes())):
        source = open_source("-", **arguments)  # type: ignore[arg-type]
        pipe.write(data[:3000])
        assert not source.read(Frame())
        source.reopen()
        time.sleep(0.3)
        pipe.write(data[3000:])
        assert time.monotonic() - read(source).captured > 0.45


@pytest.mark.parametrize(
    ("kind", "shape"), [("bgr", (120, 160, 3)), ("yuyv", (120, 160, 2)), ("nv12", (180, 160)), ("grey", (120, 160))]
)
def test_raw_frames_come_in_their_layout_without_a_copy_or_a_new_buffer(
    pipe: Pipe, kind: str, shape: tuple[int, ...]
) -> None:
    source = open_source("-", kind=kind, size=SIZE)
    frame, buffers = Frame(), set()
    for value in range(5):
        pipe.write(np.full(shape, value, np.uint8).tobytes())
        read(source, frame)
        assert frame.pixels is not None
        assert (frame.layout, frame.pixels.shape, frame.index) == (kind, shape, value)
        assert (frame.pixels == value).all()
        buffers.add(frame.pixels.ctypes.data)
    assert len(buffers) == 2  # the slot's, and the one that is filled meanwhile


def test_raw_frames_need_a_size_and_mjpeg_has_its_own(pipe: Pipe) -> None:
    with pytest.raises(SettingsError, match="expected --size too"):
        open_source("-", kind="nv12")
    with pytest.raises(SettingsError, match="MJPEG says its own size"):
        open_source("-", size=SIZE)
    with pytest.raises(SettingsError, match="expected even sides, got 161x120"):
        open_source("-", kind="yuyv", size=(161, 120))
    with pytest.raises(SettingsError, match="at most 36 megapixels"):
        open_source("-", kind="bgr", size=(99999, 99999))
    with pytest.raises(SettingsError, match="says its own size and format"):
        open_source("eye.png", kind="bgr")


def test_a_keyboard_or_nothing_on_standard_input_says_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        open_source("-")
    main_end, keyboard = os.openpty()
    with os.fdopen(main_end), os.fdopen(keyboard) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(SourceError, match="is a keyboard"):
            open_source("-")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SourceError, match="standard input is closed"):
        open_source("-")


def test_an_input_without_any_picture_is_an_error(pipe: Pipe) -> None:
    source = open_source("-")
    pipe.write(b"no video " * 5000)
    pipe.end()
    with pytest.raises(SourceError, match="ended without a whole frame"):
        source.read(Frame())


def command(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "medtex_edge", "run", str(bundles.bundle(folder / "tiny.medtex"))]
    arguments += ["--source", "-", "--no-display", "--json", "--readings", str(folder / "r.jsonl"), *more]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("more", "encode"),
    [
        ((), lambda disc: cv2.imencode(".jpg", disc)[1].tobytes()),
        (("--format", "bgr", "--size", "160x120"), lambda disc: disc.tobytes()),
    ],
)
def test_a_pipe_is_scored_until_its_writer_ends(
    tmp_path: Path, more: tuple[str, ...], encode: Callable[[Any], bytes]
) -> None:
    child = command(tmp_path, *more)
    assert child.stdin is not None
    for number in range(40):
        child.stdin.write(encode(DISCS[number % len(DISCS)]))
        child.stdin.flush()
        time.sleep(0.05)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
    summary = json.loads(out)
    assert summary["ended"] == "source ended"
    assert summary["frames"]["scored"] > 3
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {row["source"] for row in rows} == {"standard input"}
    assert all(row["reason"] is None for row in rows)


def test_settings_of_a_camera_are_refused_for_other_sources(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = str(bundles.bundle(tmp_path / "tiny.medtex"))
    assert main(["run", bundle, "--source", "x.png", "--no-display", "--exposure", "100"]) == 2
    assert "are for --camera" in capsys.readouterr().err
    assert main(["run", bundle, "--camera", "0", "--no-display", "--format", "bgr"]) == 2
    assert "--format is for --source -" in capsys.readouterr().err
    for option, value in (("--size", "1920"), ("--size", "0x5"), ("--exposure", "bright"), ("--white-balance", "-3")):
        assert main(["run", bundle, "--camera", "0", "--no-display", option, value]) == 2
        assert repr(value) in capsys.readouterr().err
