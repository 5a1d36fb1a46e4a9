"""The documentation: every page has a place, every link a target, and every command that is shown can be typed."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import markdown.extensions.toc
import pytest
import yaml

import medtex_edge
from medtex_edge.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HISTORY = DOCS / "evidence" / "history.md"  # a diary: its commands are those of their day
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
STAGES = ("train", "export", "evaluate", "runtime")


class _Loader(yaml.SafeLoader):
    """Of mkdocs.yml, which may hold tags of its own."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def settings() -> dict[str, Any]:
    """mkdocs.yml."""
    loaded: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)
    return loaded


def leaves(nav: Any) -> list[str]:
    """The pages of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in leaves(part)]


def without_code(text: str) -> str:
    return re.sub(r"`[^`]*`", "", re.sub(r"^(```.*?^```|    .*?)$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {markdown.extensions.toc.slugify(heading.replace("`", ""), "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `medtex-edge ...` in the page's code blocks."""
    blocks = re.findall(r"^ {4}.+$", page.read_text("utf-8").replace("\\\n", " "), re.MULTILINE)
    return [words for line in blocks if (words := arguments(line))]


def mentions(page: Path) -> list[list[str]]:
    """The arguments of every `medtex-edge ...` within a sentence: an option may stand there without its value."""
    spans = re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))
    return [words for span in spans if (words := arguments(span))]


def arguments(line: str) -> list[str]:
    """What follows `medtex-edge` in a shell's line, up to a pipe, a comment or the next command."""
    found = re.search(r"(?:(?<![\w/.-])medtex-edge|/medtex-edge|-m medtex_edge) (?=[a-z])(.+)", line)
    if found is None or found[1].split()[0] not in COMMANDS:
        return []
    lexer = shlex.shlex(found[1], posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("|&;"), lexer))


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command, or the command of a group, and its arguments."""
    command, rest = cli.get_command(click.Context(cli), words[0]), words[1:]
    if isinstance(command, click.Group) and rest:
        command, rest = command.get_command(click.Context(command), rest[0]), rest[1:]
    assert command is not None, shlex.join(words)
    return command, rest


def test_the_navigation_names_every_page_once() -> None:
    pages = leaves(settings()["nav"])
    assert sorted(pages) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_loads_nothing_from_other_machines(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(leaves(settings()["nav"])) - 1
    for page in pages:
        text = page.read_text("utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]* src="?https?:', text) == [], page.name
        assert re.findall(r'<link rel="?(?:stylesheet|preload|preconnect)"? href="?https?:', text) == [], page.name


def test_the_reference_has_every_command_with_its_options(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text("utf-8")
    for name in COMMANDS:
        assert f'id="medtex-edge-{name}"' in text
        command, _ = resolve([name])
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("--")):
            assert option in text, f"{name} {option}"
    assert "Sentinel" not in text


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_within_the_repository_has_a_target(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_reference_has_every_public_name_of_the_package(site: Path) -> None:
    text = (site / "reference" / "api.html").read_text("utf-8")
    for name in (name for name in medtex_edge.__all__ if not name.startswith("__")):
        assert re.search(rf'<h3 id="medtex_edge[\w.]*\.{name}"', text), name


def test_every_page_that_a_comment_or_a_message_names_exists() -> None:
    sources = [path for top in ("medtex_edge", *STAGES, "benchmarks", "tests") for path in (ROOT / top).rglob("*.py")]
    for source in sources:
        for page in re.findall(r"\bdocs/[\w./-]+\.md\b", source.read_text("utf-8")):
            assert (ROOT / page).exists(), f"{source.relative_to(ROOT)}: {page}"


def test_every_picture_is_used() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert [picture.name for picture in (DOCS / "images").iterdir() if f"images/{picture.name}" not in text] == []


def test_the_readme_has_at_most_100_lines() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 100


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: page.stem)
def test_every_command_that_is_shown_has_its_options(page: Path) -> None:
    for words in commands(page):
        command, rest = resolve(words)
        try:
            command.make_parser(click.Context(command)).parse_args(list(rest))
        except click.UsageError as error:
            pytest.fail(f"medtex-edge {shlex.join(words)}: {error.format_message()}")
    for words in mentions(page):
        command, rest = resolve(words)
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        unknown = {word for word in rest if word.startswith("--")} - options - {"--help"}
        assert not unknown, f"medtex-edge {shlex.join(words)}"


def test_the_readme_shows_the_commands_of_the_whole_way() -> None:
    shown = {words[0] for words in commands(ROOT / "README.md")}
    assert {"train-teacher", "train", "export", "run", "evaluate"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_that_is_shown_uses_public_names_alone(page: Path) -> None:
    public = set(medtex_edge.__all__)
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        used = {
            node.attr
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "medtex_edge"
        }
        assert used <= public, f"{page.name}: {sorted(used - public)}"


def test_every_benchmark_that_is_shown_exists() -> None:
    for page in PAGES:
        for name in re.findall(r"python -m benchmarks\.(\w+)", page.read_text("utf-8")):
            path = ROOT / "benchmarks" / name
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page.name}: {name}"


def test_the_architecture_names_every_folder_and_no_other() -> None:
    tree = re.findall(
        r"^    ((?:  )?)(\w+)/ ", (DOCS / "explanation" / "architecture.md").read_text("utf-8"), re.MULTILINE
    )
    named: dict[str, set[str]] = {}
    room = ""
    for indent, name in tree:
        room = room if indent else name
        named.setdefault(room, set()).update([name] if indent else [])
    for top in ("medtex_edge", *STAGES):
        folders = {
            path.name
            for path in (ROOT / top).iterdir()
            if path.is_dir() and not path.is_symlink() and (any(path.glob("*.py")) or any(path.glob("*.cpp")))
        }
        assert named[top] == folders, top


def test_pre_commit_runs_the_checks_of_make() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    entries = " ".join(hook["entry"] for hook in hooks)
    check = (ROOT / "Makefile").read_text("utf-8").split("\ncheck:")[1].split("\n\n")[0]
    for line in re.findall(r"\$\(BIN\)/(.+)", check):
        assert f".venv/bin/{line}" in entries, line


def test_the_workflow_tests_every_python_that_the_package_supports() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    classifiers = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text("utf-8")
    )
    assert versions == classifiers
    assert any(step.get("run") == "make test" for step in workflow["jobs"]["test"]["steps"])
