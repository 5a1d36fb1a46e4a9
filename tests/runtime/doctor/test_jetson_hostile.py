"""The doctor on boards whose files and tools hold anything: no content ends the checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jetson_kit import Board, read, run_checks

from medtex_edge.runtime.doctor import gpu, jetson, probe
from medtex_edge.runtime.doctor.probe import SystemProbe, ToolResult

pytestmark = pytest.mark.usefixtures("no_driver")

HOSTILE = [path for path in read("jetpack-6.2") if not path.startswith("$ ")]
TOOLS = [path[2:] for path in read("jetpack-6.2") if path.startswith("$ ")]


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """One board for many examples, each of which puts back what it changed."""
    return Board(tmp_path_factory.mktemp("hostile"), "jetpack-6.2")


class TestHostile:
    @settings(max_examples=100)
    @given(st.sampled_from(HOSTILE), st.binary(max_size=300), st.integers(0, 4000))
    def test_no_bytes_in_any_file_end_the_checks(self, lasting: Board, path: str, junk: bytes, cut: int) -> None:
        file = lasting.root / path
        good = file.read_bytes()
        try:
            for bad in (junk, good[:cut], good[:cut] + junk, junk + good):
                file.write_bytes(bad)
                if jetson.board(lasting.probe()) is not None:
                    assert all(line.cure for line in run_checks(lasting).values() if not line.present)
        finally:
            file.write_bytes(good)

    @settings(max_examples=60)
    @given(st.sampled_from(TOOLS), st.text(max_size=200), st.integers(0, 1500))
    def test_nothing_that_a_tool_prints_ends_the_checks(self, lasting: Board, tool: str, junk: str, cut: int) -> None:
        good = lasting.tools[tool]
        try:
            lasting.tools[tool] = ToolResult(0, good.text[:cut] + junk)
            assert run_checks(lasting)["board"].present
        finally:
            lasting.tools[tool] = good

    def test_escapes_of_the_terminal_are_not_handed_on(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-6.2")
        board.write("proc/device-tree/model", "Orin\x1b]0;pwned\x07\x1b[2J\u202egnp\0")
        shown = run_checks(board)["board"].value
        assert shown.replace("\ufffd", "").isprintable()
        assert "\x1b" not in shown
        assert "\u202e" not in shown

    def test_pipes_folders_loops_and_locked_files_are_as_good_as_missing(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-6.2")
        for path in HOSTILE[3:]:
            board.remove(path)
        os.mkfifo(board.root / "proc/meminfo")
        (board.root / "etc/nvpmodel.conf").mkdir()
        (board.root / "var/lib/dpkg/status").symlink_to("status")
        (board.root / "usr/local/cuda/version.json").symlink_to("/dev/zero")
        assert run_checks(board)["JetPack"].value == "6.2 (L4T 36.4.3), nvidia-jetpack is not installed"
        assert run_checks(board)["memory"].value.startswith("unknown")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"cuda": 1}', '{"cuda": {"version": 12}}', "[" * 100_000, "{"])
    def test_a_toolkit_without_a_version_has_none(self, text: str) -> None:
        assert gpu.toolkit_version(text) == ""

    def test_an_endless_file_is_read_to_its_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probe, "_LIMIT", 1000)
        (tmp_path / "big").write_bytes(b"a" * 5000)
        assert len(SystemProbe(tmp_path).text("big")) == 1000


class TestTools:
    def test_a_tool_that_is_missing_or_fails_is_a_fact(self) -> None:
        assert probe.run_tool("medtex-edge-has-no-such-tool") == ToolResult(-1, "")
        done = probe.run_tool(sys.executable, "-c", "import sys; print('out'); sys.exit('no \\x1b[31mluck')")
        assert (done.code, done.last_line) == (1, "no \ufffd[31mluck")

    def test_a_tool_that_hangs_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probe, "_PATIENCE_S", 0.2)
        assert probe.run_tool("sleep", "60").text.startswith("no answer")
