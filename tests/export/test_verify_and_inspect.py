"""The commands that check and show a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_kit import golden, write_toy
from bundles import SIZE, bundle, graph
from bundles import contract as tiny_contract
from bundles import golden as tiny_golden
from onnx import numpy_helper

from medtex_edge.bundle import Golden, write_bundle
from medtex_edge.cli import main


def refused(path: Path, capfd: pytest.CaptureFixture[str], fragment: str) -> None:
    """`verify` ends with exit code 3 and one line of error, and writes nothing."""
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    capfd.readouterr()
    assert main(["verify", str(path)]) == 3
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith(f"error: {path}: ")
    assert len([line for line in error.splitlines() if not line.startswith("  hint: ")]) == 1
    assert fragment in error
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


def test_verify_lists_what_it_recomputed(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(exported)]) == 0
    assert "every checksum holds" in (out := capsys.readouterr().out)
    assert "fp32: 8 golden frames" in out or "fp32: 7 golden frames" in out
    assert main(["verify", str(exported), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is True
    assert set(value["drift"]) == {"fp32", "fp16"}


def test_verify_refuses_damage_in_one_line(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = exported.read_bytes()
    path = tmp_path / "x.medtex"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    refused(path, capfd, "damaged")
    path.write_bytes(content[:middle])
    refused(path, capfd, "truncated")
    path.write_bytes(content.replace(b"report.json", b"../port.txt"))
    refused(path, capfd, "plain file names")
    path.write_text("Dear doctor")
    refused(path, capfd, "a zip archive")
    path.write_bytes(b"")
    refused(path, capfd, "0 bytes")


def test_verify_catches_a_contract_that_lies_about_shapes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Contract and golden vectors agree with each other here; only the graph knows better.
    lie = tiny_contract(size=SIZE * 2)
    path = write_bundle(tmp_path / "x.medtex", lie, {"fp32": graph(SIZE)}, golden(lie), {})
    refused(path, capfd, "by the contract")


def test_verify_catches_a_graph_that_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused(write_toy(tmp_path / "x.medtex"), capfd, "refuses the graph")


def test_verify_catches_answers_that_drifted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused(bundle(tmp_path / "x.medtex", drift=0.2), capfd, "saliency by")


def test_verify_catches_a_graph_whose_answers_are_none_on_the_golden_frames(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agreed = tiny_contract()
    vectors = tiny_golden(graph(), agreed)
    # NaN where an image is brighter than black: the black frame of the start goes through.
    model = onnx.load_from_string(graph())
    weight = next(item for item in model.graph.initializer if item.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(np.full((1, 3), np.float32("inf")), "weight"))
    path = write_bundle(
        tmp_path / "x.medtex", agreed, {"fp32": bytes(model.SerializeToString())},
        Golden(vectors.images, vectors.probabilities, vectors.saliency), {},
    )  # fmt: skip
    refused(path, capfd, "expected numbers in 0..1")


def test_inspect_shows_what_is_promised(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(exported)]) == 0
    out = capsys.readouterr().out
    for fragment in ("fov-square-area/1", "referable probability >= 0.6000", "0.91", "model.fp16.onnx", "fp16"):
        assert fragment in out
    assert main(["inspect", str(exported), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["contract"]["classes"] == ["0", "1", "2"]
    assert value["members"]["model.fp32.onnx"]["sha256"]


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"metrics": None, "precisions": 7, "provenance": [], "cost": "free"},
        {"metrics": ["a"], "precisions": {"fp32": 1, "fp16": {"parity": [], "bytes": "many"}}},
        {"precisions": {"[bold]": {"parity": {"[/x]": {"photographs": {"a": 1}, "rank_correlation": "[red]"}}}}},
        {"metrics": {"\x1b[2J": "\x1b]0;title\x07", "[link=x]": "[/nonsense]"}, "provenance": {"command": "\x9b31m"}},
    ],
)
def test_inspect_shows_any_report_and_obeys_none(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_toy(tmp_path / "x.medtex", report=report)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out)
