"""The file of kernel times that makes a second build shorter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorrt_kit
import tensorrt_rtx as rtx
from bundles import graph

from medtex_edge.errors import StorageError
from medtex_edge.export.tensorrt.builder import build
from medtex_edge.export.tensorrt.config import Timings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning"),
]


def test_the_timing_cache_is_written_and_read_again(version: tensorrt_kit.Version, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "timings"
    assert build(version, graph(), timing_cache=path).warnings == ()
    assert path.stat().st_size > 0
    assert build(version, graph(), timing_cache=path).plan
    path.write_bytes(b"damaged")
    assert build(version, graph(), timing_cache=path).plan
    assert path.read_bytes() != b"damaged"


def test_rtx_measures_nothing_and_keeps_no_timing_cache(tmp_path: Path) -> None:
    build(rtx, graph(), capability="8.6", timing_cache=tmp_path / "timings")
    assert list(tmp_path.iterdir()) == []


def test_a_timing_cache_of_another_gpu_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "timings").write_bytes(b"foreign")
    given: list[bytes] = []

    def create(content: bytes) -> Any:
        given.append(content)
        return SimpleNamespace(content=content, serialize=lambda: b"fresh")

    config = SimpleNamespace(create_timing_cache=create, set_timing_cache=lambda cache, _: cache.content == b"")
    timings = Timings(tensorrt_kit.old("10.3.0"), config, tmp_path / "timings")
    assert given == [b"foreign", b""]
    assert timings.keep() == ()
    assert (tmp_path / "timings").read_bytes() == b"fresh"


def test_a_timing_cache_that_cannot_be_written_costs_no_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    engine = build(tensorrt_kit.Version("10.3.0", rtx), graph(), timing_cache=tmp_path / "file" / "timings")
    assert engine.plan
    assert [note for note in engine.warnings if "the timing cache was not kept" in note]


def test_a_timing_cache_that_is_a_folder_is_an_error_before_the_build(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        build(tensorrt_kit.Version("10.3.0", rtx), graph(), timing_cache=tmp_path)
