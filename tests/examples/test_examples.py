"""The examples are run as a reader runs them: each in a process of its own, on a small bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bundles
import cv2
import numpy as np
import pytest
from web_kit import TOKEN, served

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(each) for each in command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)


def printed(folder: Path, *command: str | Path) -> str:
    """What a script prints; it has to end well."""
    done = run(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a bundle and two photographs."""
    bundles.bundle(tmp_path / "eye.medtex")
    cv2.imwrite(str(tmp_path / "photo.png"), bundles.disc(240, width=320, lesion=True))
    cv2.imwrite(str(tmp_path / "sound.png"), bundles.disc(240, width=320))
    return tmp_path


def test_every_example_is_tested_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.iterdir() if path.is_file()]
    assert len(names) == 6
    assert all(name in tests for name in names)


def test_a_photograph_is_read_and_its_overlay_written(place: Path) -> None:
    cv2.imwrite(str(place / "black.png"), np.zeros((64, 64, 3), np.uint8))
    script = EXAMPLES / "read_photograph.py"
    shown = printed(place, sys.executable, script, "eye.medtex", "photo.png", "black.png")
    assert "photo.png: referable, severe" in shown
    assert "black.png: ungradable" in shown
    overlay = cv2.imread(str(place / "photo.overlay.png"))
    assert overlay is not None
    assert overlay.shape == (240, 320, 3)
    failed = run(place, sys.executable, script, "eye.medtex", "nowhere.jpg")
    assert failed.returncode == 1
    assert "nowhere.jpg" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_application_reads_frames_of_its_own(place: Path) -> None:
    lines = printed(place, sys.executable, EXAMPLES / "embed_in_app.py", "eye.medtex").splitlines()
    assert lines[0].startswith("not referable: healthy")
    assert lines[-1].startswith("referable: severe")


def test_two_bundles_are_compared(place: Path) -> None:
    (place / "photos").mkdir()
    for name in ("photo.png", "sound.png"):
        shutil.move(place / name, place / "photos" / name)
    shutil.copy(place / "eye.medtex", place / "new.medtex")
    shown = printed(place, sys.executable, EXAMPLES / "compare_bundles.py", "eye.medtex", "new.medtex", "photos")
    assert shown == "0 of 2 verdicts differ; referable probabilities by at most 0.000\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_another_language_reads_over_http(place: Path) -> None:
    script = EXAMPLES / "read_over_http.sh"
    with served(token=TOKEN, bundle=place / "eye.medtex") as page:
        address = page.url.rstrip("/")
        reading = json.loads(printed(place, "sh", script, "photo.png", address, TOKEN))
        refused = run(place, "sh", script, "photo.png", address)
    assert (reading["verdict"], reading["label"]) == ("referable", "severe")
    assert refused.returncode != 0
    assert "token" in json.loads(refused.stdout)["error"]["expected"]


@pytest.mark.slow
def test_a_student_is_distilled_from_an_onnx_teacher(tmp_path: Path) -> None:
    shown = printed(tmp_path, sys.executable, EXAMPLES / "own_onnx_teacher.py", tmp_path / "work")
    assert "exported" in shown.splitlines()[-1]
    assert (tmp_path / "work" / "student.medtex").is_file()


def test_the_notebook_runs_from_top_to_bottom_and_carries_no_outputs(place: Path) -> None:
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    (place / "tour.py").write_text("\n\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    shown = printed(place, sys.executable, "tour.py")
    assert "tiny ('healthy', 'mild', 'severe')" in shown
    assert "referable severe" in shown
    assert "ungradable black None" in shown
    assert "no-such-photograph.jpg: cannot be read" in shown
