"""The estimate: the arithmetic of a board, the table of sums, and the command."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_kit import write_toy
from bundles import graph as tiny
from export_kit import written
from import_kit import HEAVY, loaded_by

from medtex_edge.cli import main
from medtex_edge.commands import estimate as command
from medtex_edge.errors import BundleError, SettingsError
from medtex_edge.export.estimate.kernels import Kernel, kernels
from medtex_edge.export.estimate.latency import (
    BOARDS,
    DEFAULT,
    ERROR,
    ERROR_FP32,
    REACHED,
    BoardModel,
    Reached,
    estimate,
    timed,
)
from medtex_edge.export.precision.half import to_half

PLAIN = BoardModel("of round numbers", multiprocessors=10, gpu_mhz=1000, bandwidth_gbs=100)
HALVES = Reached(dense=0.5, depthwise=0.1, bandwidth=0.5, launch_clocks=5000)
KERNEL = Kernel("k", ("n",), "convolution", "student", "fp16", 0, 0, 0, 0)


def test_a_kernel_takes_the_longer_of_arithmetic_and_bytes_and_its_launch() -> None:
    assert timed(KERNEL, PLAIN, HALVES).seconds == pytest.approx(5e-6)
    assert timed(KERNEL, replace(PLAIN, gpu_mhz=500), HALVES).seconds == pytest.approx(10e-6)
    busy = replace(KERNEL, multiply_adds=51_200_000, weight_bytes=10_000, read_bytes=20_000, written_bytes=20_000)
    found = timed(busy, PLAIN, HALVES)  # 51.2 M at half of 10 x 1 GHz x 1024; 50 kB at half of 100 GB/s
    assert found.arithmetic_s == pytest.approx(10e-6)
    assert found.bytes_s == pytest.approx(1e-6)
    assert (found.seconds, found.limit) == (pytest.approx(15e-6), "arithmetic")
    assert timed(replace(busy, precision="int8"), PLAIN, HALVES).arithmetic_s == pytest.approx(5e-6)
    assert timed(replace(busy, precision="fp32"), PLAIN, HALVES).arithmetic_s == pytest.approx(80e-6)
    depthwise = timed(replace(busy, kind="depthwise"), PLAIN, HALVES)
    assert depthwise.arithmetic_s == pytest.approx(400e-6)  # at a tenth of the CUDA cores, in any precision
    moving = timed(replace(busy, written_bytes=970_000), PLAIN, HALVES)
    assert (moving.seconds, moving.limit) == (pytest.approx(25e-6), "bytes")
    more = timed(moving.kernel, PLAIN, HALVES, batch=2)  # weights are read once
    assert more.bytes_s == pytest.approx((10_000 + 2 * 990_000) / 50e9)


def test_boards_have_the_published_throughput() -> None:
    """Trillions of sparse int8 operations a second, of the GPU alone: twice the dense ones, two for a multiply-add."""
    published = {"orin-nano": 67, "orin-nano-15w": 40, "orin-nx": 60, "agx-orin": 170}
    for name, tops in published.items():
        assert 4 * BOARDS[name].multiply_adds_per_s(2048) / 1e12 == pytest.approx(tops, rel=0.03)
    assert tuple(BOARDS) == command.BOARDS
    assert command.BOARDS[0] == DEFAULT


def test_sums_are_those_of_the_table(full: bytes) -> None:
    found = estimate(to_half(full))
    rows = found["kernels"]
    assert found["launches"] == len(rows)
    assert found["bytes"] == sum(row["weight_bytes"] + row["read_bytes"] + row["written_bytes"] for row in rows)
    assert found["ms"]["middle"] == pytest.approx(sum(row["us"] for row in rows) / 1e3, abs=0.001)
    for group, column in (("parts", "part"), ("kinds", "kind")):
        for name, sums in found[group].items():
            assert sums["launches"] == sum(row[column] == name for row in rows)
        for name in ("launches", "multiply_adds", "bytes"):
            assert sum(sums[name] for sums in found[group].values()) == found[name]
        assert sum(sums["ms"] for sums in found[group].values()) == pytest.approx(found["ms"]["middle"], abs=0.005)
    assert sum(found["spent_ms"].values()) == pytest.approx(found["ms"]["middle"], abs=0.003)
    assert next(iter(found["kinds"])) == max(found["kinds"], key=lambda kind: found["kinds"][kind]["ms"])


def test_the_range_is_that_of_the_fits_error_and_wider_in_fp32(full: bytes) -> None:
    for content, error in ((full, ERROR_FP32), (to_half(full), ERROR)):
        ms = estimate(content)["ms"]
        assert ms["low"] == pytest.approx(ms["middle"] / (1 + error), abs=0.001)
        assert ms["high"] == pytest.approx(ms["middle"] / (1 - error), abs=0.001)


def test_an_estimate_states_that_it_is_one_and_what_it_assumes(full: bytes) -> None:
    found = estimate(full, "orin-nano-15w")
    assert "not a measurement" in found["note"]
    assert found["board"] == "Jetson Orin Nano 8 GB, 15 W"
    assert found["assumed"]["gpu_mhz"] == 625
    assert found["assumed"]["launch_clocks"] == REACHED.launch_clocks
    assert found["ms"]["middle"] > estimate(full)["ms"]["middle"]


def test_what_is_no_graph_or_no_board_is_refused(full: bytes) -> None:
    with pytest.raises(BundleError, match="expected an ONNX graph"):
        kernels(b"not a graph, but some bytes")
    with pytest.raises(SettingsError, match="orin-nano-15w"):
        estimate(full, "tx2")
    unknown = written("(float16[N,8] x) => (float16[N,k] y)", "m = Mystery(x) y = Relu(m)")
    with pytest.raises(BundleError, match="shapes are known"):
        kernels(unknown)


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(full: bytes, tmp_path: Path) -> Path:
    half = to_half(full)
    report = {"precisions": {"fp16": {"estimate": estimate(half)}}}
    return write_toy(tmp_path / "x.medtex", models={"fp32": full, "fp16": half}, report=report)


def test_the_command_shows_each_kernel_the_sums_and_that_nothing_was_measured(
    bundle: Path, full: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["estimate", str(bundle)]) == 0
    shown = capsys.readouterr().out
    found = estimate(to_half(full))
    for row in found["kernels"]:
        assert f" {row['name'].removeprefix(row['part'] + '.')} " in shown
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["estimate", str(bundle)]) == 0
    narrow = capsys.readouterr().out
    for row in found["kernels"]:
        moved = row["weight_bytes"] + row["read_bytes"] + row["written_bytes"]
        assert re.search(rf" {row['multiply_adds'] / 1e6:.2f} +{moved / 1e3:.0f} +{row['us']:.1f} ", narrow), "whole"
    assert f"fp16: {found['ms']['middle']:.2f} ms ({found['ms']['low']:.2f}-{found['ms']['high']:.2f})" in shown
    assert f"{found['launches']} launches" in shown
    assert "an estimate from arithmetic; on the board, measure: medtex-edge bench --backend tensorrt" in shown


def test_the_command_writes_json_of_any_precision_and_board(
    bundle: Path, full: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", str(bundle), "--precision", "fp32", "--board", "agx-orin", "--json", "-"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == {"bundle": str(bundle), "precision": "fp32", **estimate(full, "agx-orin")}
    assert main(["estimate", str(bundle), "--json", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["precision"] == "fp16"
    capsys.readouterr()
    assert main(["estimate", str(bundle), "--precision", "int8"]) == 3
    assert "export again with --int8" in capsys.readouterr().err


def test_a_bundle_whose_graph_is_none_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(write_toy(tmp_path / "x.medtex"))]) == 3
    assert "expected an ONNX graph" in capsys.readouterr().err


def test_without_onnx_the_command_names_the_extra(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("medtex_edge.export.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["estimate", str(bundle)]) == 2
    assert "pip install 'medtex-edge[export]'" in capsys.readouterr().err


def test_inspect_reports_in_a_line_what_the_report_expects(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"expected on Jetson Orin Nano 8 GB, MAXN SUPER, fp16: [\d.]+ ms \([\d.]+-[\d.]+\)", shown)
    assert "medtex-edge bench --backend tensorrt" in shown


@pytest.mark.parametrize(
    "value",
    [None, [], "fast", {"ms": 1}, {"note": "none: x"}, {"ms": {"middle": "1", "low": 1, "high": 1}, "parts": {}}],
)
def test_a_report_of_another_form_reports_nothing(value: Any) -> None:
    assert list(command.lines({"precisions": {"fp16": {"estimate": value}}})) == []
    assert list(command.lines({"precisions": [value]})) == []


def test_any_graph_of_ours_can_be_estimated() -> None:
    assert estimate(tiny())["launches"] > 0


def test_counting_needs_onnx_and_nothing_heavier() -> None:
    assert HEAVY & loaded_by("import medtex_edge.export.estimate.latency") == {"onnx"}
