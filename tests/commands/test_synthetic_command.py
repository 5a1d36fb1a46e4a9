"""`medtex-edge synthetic`: what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medtex_edge.cli import main


def test_with_json_the_only_output_is_one_object_of_folder_counts_and_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, video = tmp_path / "dataset", tmp_path / "eye.avi"
    arguments = ["synthetic", "--out", str(out), "--count", "5", "--size", "96"]
    assert main([*arguments, "--video", str(video), "--frames", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["folder"], found["count"], found["video"]) == (str(out), 5, str(video))
    assert sum(found["grades"].values()) == sum(found["splits"].values()) == 5
    assert len(list((out / "images").iterdir())) == 5
    assert video.stat().st_size > 0


def test_without_a_video_the_object_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthetic", "--out", str(tmp_path / "d"), "--count", "5", "--size", "96", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["video"] is None
