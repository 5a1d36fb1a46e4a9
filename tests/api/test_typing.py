"""What a user's type checker sees: every public name, with its types, under `mypy --strict`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import numpy as np
import numpy.typing as npt

import medtex_edge

with medtex_edge.open_bundle("eye.medtex", precision="fp32", threads=2) as bundle:
    names: tuple[str, ...] = bundle.classes
    reading: medtex_edge.Reading = bundle.read("photo.jpg")
    reading = bundle.read(np.zeros((64, 64, 3), np.uint8))
    if reading.verdict is medtex_edge.Verdict.REFERABLE and reading.probabilities is not None:
        probability: float = reading.probabilities["severe"]
    picture: npt.NDArray[np.uint8] = reading.overlay()
    for each in medtex_edge.stream(bundle, camera=0):
        reason: medtex_edge.Reason | None = each.reason
run = medtex_edge.train("photos/", label_column="grade", weight={"mid": 0.5}).run
exported: medtex_edge.ExportResult = medtex_edge.export(run, fp16=True)
score: object = medtex_edge.evaluate(exported.bundle).evaluation["answer"]
error: type[Exception] = medtex_edge.MedtexError
version: str = medtex_edge.__version__
"""
MISTAKES = """
import medtex_edge

medtex_edge.train(epochs="many")
medtex_edge.open_bundle(5)
medtex_edge.nothing
"""


def checked(script: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def test_a_users_script_passes_strict_checks_and_mistakes_do_not(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(SCRIPT)
    (tmp_path / "bad.py").write_text(MISTAKES)
    assert "Success" in (good := checked(tmp_path / "good.py")), good
    bad = checked(tmp_path / "bad.py")
    assert [line.split(":")[1] for line in bad.splitlines() if ": error:" in line] == ["4", "5", "6"], bad
