"""The rules of this repository that no linter checks: sizes of folders and modules, and names that are out of use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOPS = ("medtex_edge", "train", "evaluate", "export", "runtime", "tests", "benchmarks", "examples")
MODULES = {".py", ".cpp", ".hpp", ".js"}

FOLDER_LIMIT = 16
# Folder -> why it may have more modules.
LARGE_FOLDERS: dict[str, str] = {}

LINE_LIMIT = 400
REASON = "longer than 400 lines because"  # in the docstring or the comment at the head of a longer module
HEAD_LINES = 12

# With a hyphen inside, so that a search for one of these words does not end here.
RETIRED = """
    Out-let Guar-ded To-ld to-ld sa-id as-ked As-ked ask_-student asked_-alone Ask-ing Do-ors open_-to gla-nce Se-en
    Expl-ained one_-voice New-est In-Turn Coh-ort Mat-erial lif-ted swit-ching riv-als Pa-ce
""".replace("-", "").split()
RETIRED_CLASS = "Ei-ght".replace("-", "")


def modules() -> Iterator[Path]:
    """Every module once: the package's links to the stages are not followed."""
    for top in TOPS:
        for folder, inner, names in os.walk(ROOT / top):
            inner[:] = [name for name in inner if name != "__pycache__" and not name.startswith(".")]
            yield from (Path(folder, name) for name in sorted(names) if Path(name).suffix in MODULES)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_folder_holds_more_modules_than_a_reader_can_survey() -> None:
    counts: dict[str, int] = {}
    for path in modules():
        if path.name != "__init__.py":
            counts[relative(path.parent)] = counts.get(relative(path.parent), 0) + 1
    assert len(counts) > 50
    large = {folder for folder, count in counts.items() if count > FOLDER_LIMIT}
    assert large == set(LARGE_FOLDERS), "split the folder, or name it in LARGE_FOLDERS with the reason"


def test_a_long_module_states_at_its_head_why_it_is_not_split() -> None:
    unexplained = []
    for path in modules():
        lines = path.read_text("utf-8").splitlines()
        # The words of the head without the marks of a comment, since a reason may run over the end of a line.
        head = " ".join(re.sub(r"^\s*(//|#|\*)", "", line).strip() for line in lines[:HEAD_LINES])
        if len(lines) > LINE_LIMIT and REASON not in head:
            unexplained.append(f"{relative(path)}: {len(lines)} lines")
    assert unexplained == [], f"split it by behaviour, or state at its head: this module is {REASON} ..."


def test_names_that_are_out_of_use_do_not_come_back() -> None:
    pattern = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b|\bclass {RETIRED_CLASS}\b")
    found = [
        f"{relative(path)}:{number}: {match.group()}"
        for path in modules()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        for match in pattern.finditer(line)
    ]
    assert found == []
