"""The model card: every section, inert, without a folder, written by a training, carried by the bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bundle_kit import write_toy
from click.testing import CliRunner
from evaluation_kit import FULL, full, row
from page_kit import HOSTILE
from run_kit import write_photographs, write_run

from medtex_edge.bundle import Bundle
from medtex_edge.cli import cli
from medtex_edge.errors import BundleError, DataError
from medtex_edge.evaluate.model_card import evaluation_card, write_evaluation_card
from medtex_edge.export.build import _extras
from medtex_edge.train.report.model_card import code, run_measurements, write_run_card
from medtex_edge.train.report.report import NO_DEVICE, SYNTHETIC

SECTIONS = (
    "Model details", "Intended use", "Factors", "Metrics and operating point", "Evaluation data", "Training data",
    "Quantitative analyses", "The explanation, and its limits", "Ethical considerations",
    "Caveats and recommendations", "Licences",
)  # fmt: skip


def test_a_card_has_every_section_and_the_figures_with_their_intervals(tmp_path: Path) -> None:
    text = write_evaluation_card(FULL, tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^## (.*)$", text, re.M)) == SECTIONS
    for words in ("0.3100", "0.920 (0.820 to 0.970)", "0.915 (0.855 to 0.955)", "sensitivity of 0.9", "`mild, severe`",
                  "camera", "Apache-2.0", NO_DEVICE, "EfficientNet-Lite", "quarter of the input"):  # fmt: skip
        assert words in text
    assert SYNTHETIC not in text


def test_a_card_of_nothing_reports_that_nothing_was_measured() -> None:
    text = evaluation_card({})
    assert tuple(re.findall(r"^## (.*)$", text, re.M)) == SECTIONS
    assert text.count("Not measured.") >= 3
    assert not re.search(r"\b0\.\d", text.split("## Licences")[0].replace("0.1.0", ""))


def test_what_ours_lost_and_drawn_photographs_are_in_the_card() -> None:
    changed = full()
    changed["lesions"]["rows"][0] = row("ours", "ours", pixel_auc=0.5)
    changed["data"]["synthetic"] = True
    text = evaluation_card(changed)
    assert "lose to a baseline" in text.split("## Caveats")[1]
    assert text.index(SYNTHETIC) < text.index("## Model details")


def test_names_are_text_and_folders_are_left_out() -> None:
    changed = full()
    changed["name"] = HOSTILE + "`<b>` | x"
    changed["subject"] |= {"classes": ["![a](http://x)", HOSTILE], "teacher": "/home/ann/secret/teacher.onnx"}
    changed["explanation"]["warnings"] = [f"{HOSTILE} ![a](http://x) at C:\\Users\\ann\\maps.npz"]
    changed["explanation"]["rows"].append(row("<b>", "rival", "x|y", "[z](w)", deletion=0.01))
    text = evaluation_card(changed)
    outside = re.sub(r"`[^`\n]*`", "", text.replace("\\`", ""))
    assert not re.search(r"(?<!\\)<", outside)
    assert not re.search(r"(?<!\\)\[", outside)
    for hidden in ("ann", "secret", "\x1b", "\u202e"):
        assert hidden not in text.replace("meaning", "").replace("channel", "")
    assert "teacher.onnx" in text
    assert code("a`b|c\nd") == "`a'b/c d`"
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| deletion")}
    assert len(widths) <= 1


def test_a_run_gives_its_card_from_its_own_files_and_the_bundle_carries_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", write_photographs(tmp_path / "photographs"))
    measurements = run_measurements(run)
    assert measurements["data"]["path"] == "photographs"
    text = write_run_card(run).read_text(encoding="utf-8")
    assert "`toy`" in text
    assert f"`{', '.join(json.loads((run / 'model.json').read_text())['classes'])}`" in text
    assert "random ones" in text, "the student of this run has no ImageNet weights"
    assert str(tmp_path) not in text
    assert _extras(run) == {"model_card.md": text.encode()}
    with pytest.raises(DataError):
        write_run_card(write_photographs(tmp_path / "no run", 3))


def test_an_export_takes_folders_and_names_of_photographs_from_what_it_packs(tmp_path: Path) -> None:
    (tmp_path / "model_card.md").write_text("made in /home/ann/patients/x.png")
    (tmp_path / "evaluation.json").write_text(json.dumps(FULL | {"command": "evaluate /home/ann/runs/a"}))
    (tmp_path / "report.html").write_text("photographs of patients")
    found = _extras(tmp_path)
    assert found["model_card.md"] == b"made in x.png"
    assert b"ann" not in found["evaluation.json"]
    assert b"IDRiD_003" not in found["evaluation.json"]
    assert "report.html" not in found
    (tmp_path / "model_card.md").write_bytes(b"\xff")
    with pytest.raises(DataError, match="utf-8"):
        _extras(tmp_path)


def test_a_bundle_with_a_card_shows_it_and_one_without_is_still_a_bundle(tmp_path: Path) -> None:
    hostile = "# card\n\x1b[31mred\nend"
    path = write_toy(tmp_path / "a.medtex", extras={"model_card.md": hostile.encode()})
    assert Bundle.open(path).card() == hostile
    shown = CliRunner().invoke(cli, ["inspect", str(path)])
    assert "inspect --card" in shown.output
    printed = CliRunner().invoke(cli, ["inspect", "--card", str(path)])
    assert printed.output == "# card\n\\x1b[31mred\nend\n"
    bare = write_toy(tmp_path / "b.medtex", extras={})
    assert Bundle.open(bare).card() is None
    assert "inspect --card" not in CliRunner().invoke(cli, ["inspect", str(bare)]).output
    result = CliRunner().invoke(cli, ["inspect", "--card", str(bare)])
    assert isinstance(result.exception, BundleError)


@pytest.mark.parametrize("content", [b"\xff\xfe card", b"x" * ((1 << 20) + 1)])
def test_a_card_that_is_no_text_or_too_long_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model_card\.md"):
        write_toy(tmp_path / "a.medtex", extras={"model_card.md": content})
    assert not (tmp_path / "a.medtex").exists()
