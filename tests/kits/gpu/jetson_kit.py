"""Boards made of the captures under tests/jetson: a root folder, and tools that print what was captured."""

from __future__ import annotations

import re
from pathlib import Path

from medtex_edge.runtime.doctor import gpu, jetson, opencv
from medtex_edge.runtime.doctor.check import Check
from medtex_edge.runtime.doctor.probe import SystemProbe, ToolResult

CAPTURES = Path(__file__).parents[2] / "jetson"
NAMES = sorted(path.stem for path in CAPTURES.glob("*.txt"))
HOME = "/home/nurse/medtex"  # a virtual environment that sees the system's packages
_BUILD = "  GUI:    {}\n    FFMPEG:    YES\n    GStreamer:    {}\n"
WITH_GSTREAMER = ToolResult(0, _BUILD.format("GTK2", "YES (1.20.3)"))
WITHOUT_GSTREAMER = ToolResult(0, _BUILD.format("QT5", "NO"))
PROBES = {
    "tensorrt": ToolResult(0, "version 10.3.0\n"),
    "pycuda.driver": ToolResult(0, "version 2026.1\n"),
    "cv2": WITH_GSTREAMER,
}


class Board:
    """A board whose files can be changed, and the host that reads them."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.version = (3, 12) if name.startswith("jetpack-7") else (3, 10)
        python = "python{}.{}".format(*self.version)
        self.venv = f"{HOME}/lib/{python}/site-packages"
        self.local = f"/usr/local/lib/{python}/dist-packages"
        self.system = f"/usr/lib/{python}/dist-packages"
        # The order of Ubuntu's Python.
        self.path = (f"/usr/lib/{python}", self.venv, self.local, "/usr/lib/python3/dist-packages", self.system)
        self.tools: dict[str, ToolResult] = {}
        self.probes = dict(PROBES)
        for path, text in read(name).items():
            if path.startswith("$ "):
                self.tools[path[2:]] = ToolResult(0, text)
            else:
                self.write(path, _status(text) if path == "var/lib/dpkg/status" else text.replace("\\0", "\0"))
        for folder, module in ((self.system, "tensorrt"), (self.system, "cv2"), (self.venv, "pycuda")):
            self.install(folder, module)
        self.numpy("1.26.4")

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def install(self, folder: str, module: str) -> None:
        self.write(f"{folder}/{module}/__init__.py", "")

    def wheel(self, folder: str, name: str) -> None:
        self.write(f"{folder}/{name}.dist-info/METADATA", "")

    def numpy(self, version: str) -> None:
        self.remove(f"{self.venv}/numpy-*.dist-info/METADATA")
        self.install(self.venv, "numpy")
        self.wheel(self.venv, f"numpy-{version}")

    def remove(self, path: str) -> None:
        for file in sorted(self.root.glob(path.lstrip("/")), reverse=True):
            file.unlink()

    def forget(self, package: str) -> None:
        status = self.root / "var/lib/dpkg/status"
        status.write_text(re.sub(rf"Package: {package}\n(?:.+\n)+\n?", "", status.read_text()))

    def probe(self) -> SystemProbe:
        return SystemProbe(self.root, self.run, self.path, f"{HOME}/bin/python", self.version, HOME, "/usr")

    def run(self, *arguments: str) -> ToolResult:
        if arguments[1:2] == ("-c",):
            return next(done for module, done in self.probes.items() if f"import {module};" in arguments[2])
        return self.tools.get(" ".join(arguments), ToolResult(-1, ""))


def read(name: str) -> dict[str, str]:
    """The files and tools of a capture: path or '$ command', then its text."""
    parts = re.split(r"^== (.+)\n", (CAPTURES / f"{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _status(text: str) -> str:
    """dpkg's own list of `package version` lines, among packages that were removed."""
    stanza = "Package: {}\nStatus: {}\nSection: libs\nVersion: {}\nDescription: of a test\n goes on\n"
    removed = [stanza.format("libnvinfer7", "deinstall ok config-files", "7.1.3-1+cuda10.2")]
    return "\n".join([*removed, *(stanza.format(*_split(line)) for line in text.splitlines())])


def _split(line: str) -> tuple[str, str, str]:
    package, version = line.split()
    return package, "install ok installed", version


def run_checks(board: Board | SystemProbe) -> dict[str, Check]:
    """The sections that know of boards, by name."""
    where = board.probe() if isinstance(board, Board) else board
    found = jetson.board(where)
    assert found is not None
    lines = [*jetson.checks(where, found), *gpu.checks(where, found), *opencv.checks(where, found, ":0", "")]
    return {line.name: line for line in lines}
