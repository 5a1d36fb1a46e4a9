"""The source of every check: files under a root folder, and tools. Tests put captures in their place.

Nothing here raises: a file that is missing, locked, endless or no text, and a tool that fails or hangs, are results.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

_LIMIT = 32 << 20  # bytes of a file that are read; the largest, dpkg's list of packages, has about four million
_PATIENCE_S = 20.0  # TensorRT takes a few seconds to be imported from an SD card
# Escapes of terminals, and characters that turn the direction of what follows, must not get into a line of output.
_UNPRINTABLE = re.compile("[^\\n\\t\\0 -~\\u00a0-\\u2027\\u202f-\\u2065\\u206a-\\U0010ffff]")


@dataclass(frozen=True)
class ToolResult:
    """A tool's exit code (-1: it is missing, or took too long) and what it printed, errors included."""

    code: int
    text: str

    @property
    def last_line(self) -> str:
        """The last line that is not empty: of a Python that failed, the error."""
        return next((line.strip() for line in reversed(self.text.splitlines()) if line.strip()), "it printed nothing")


def run_tool(*arguments: str) -> ToolResult:
    """Run a tool for at most 20 s, without input."""
    # nvpmodel lies in /usr/sbin, which is not on every user's path.
    found = shutil.which(arguments[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin")
    if found is None:
        return ToolResult(-1, "")
    try:
        done = subprocess.run(
            [found, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ToolResult(-1, f"no answer within {_PATIENCE_S:.0f} s")
    except OSError as error:
        return ToolResult(-1, str(error))
    return ToolResult(done.returncode, printable(done.stdout.decode(errors="replace")))


def printable(text: str) -> str:
    """The text without control characters (lines, tabs and NUL stay)."""
    return _UNPRINTABLE.sub("\ufffd", text)


@dataclass(frozen=True)
class SystemProbe:
    """A machine and a Python on it: by default the running ones. Paths are given without the slash in front."""

    root: Path = Path("/")
    run: Callable[..., ToolResult] = run_tool
    path: tuple[str, ...] = field(default_factory=lambda: tuple(entry for entry in sys.path if entry))  # sys.path
    python: str = sys.executable
    version: tuple[int, int] = sys.version_info[:2]
    prefix: str = sys.prefix
    base_prefix: str = sys.base_prefix  # another than `prefix` in a virtual environment

    def text(self, path: str) -> str:
        """What a file holds, or ''."""
        file = self.root / path
        try:
            if not file.is_file():  # a pipe would wait for its writer
                return ""
            with file.open("rb") as opened:
                return printable(opened.read(_LIMIT).decode(errors="replace"))
        except (OSError, ValueError):
            return ""

    def line(self, path: str) -> str:
        """The first line of a file, at most 200 characters, without the NUL that device trees end with."""
        return self.text(path)[:200].partition("\n")[0].strip("\0 \t")

    def number(self, path: str) -> int | None:
        """The whole number that is all that a file holds, as files of /sys do."""
        text = self.line(path)
        return int(text) if re.fullmatch(r"\d{1,15}", text) else None

    def glob(self, pattern: str) -> list[str]:
        """The paths that fit, sorted."""
        try:
            return sorted(str(PurePosixPath(path.relative_to(self.root))) for path in self.root.glob(pattern))
        except (OSError, ValueError):
            return []

    @cached_property
    def packages(self) -> dict[str, str]:
        """Installed Debian packages and their versions."""
        found = {}
        for stanza in self.text("var/lib/dpkg/status").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version): (\S.*)$", stanza, re.MULTILINE))
            if fields.get("Status", "").endswith(" installed") and "Package" in fields and "Version" in fields:
                found[fields["Package"].strip()] = fields["Version"].strip()[:60]
        return found

    def places(self, module: str) -> list[str]:
        """The folders of `path` that hold a module, in the order in which Python searches; the first is imported."""
        return [entry for entry in dict.fromkeys(self.path) if self._holds(entry.strip("/"), module)]

    def distributions(self, folder: str, pattern: str) -> dict[str, str]:
        """Wheels in a folder of `path` whose name fits the regular expression, with their versions."""
        found = {}
        for path in self.glob(f"{glob.escape(folder.strip('/'))}/*.dist-info"):
            name, _, version = PurePosixPath(path).stem.partition("-")
            if re.fullmatch(pattern, name.replace("_", "-")):
                found[name.replace("_", "-")] = version
        return found

    def _holds(self, folder: str, module: str) -> bool:
        names = (f"{module}/__init__.py", f"{module}.py", f"{module}.*.so")
        return any(self.glob(f"{glob.escape(folder)}/{name}") for name in names)
