"""Which OpenCV is imported, what it was built with, and which other one it hides.

The wheel of PyPI comes without GStreamer. In an environment that sees the system's packages its folder lies before
theirs, so that installing it, or anything that asks for it, hides JetPack's own, which has GStreamer.
"""

from __future__ import annotations

import re

from medtex_edge.runtime.doctor import jetson
from medtex_edge.runtime.doctor.check import Finding
from medtex_edge.runtime.doctor.probe import Done, Host

_WHEELS = r"opencv(-contrib)?-python(-headless)?(-rolling)?"
_UNBUILT = "sudo apt install libgl1 libglib2.0-0, or pip install opencv-python-headless (no window)"
# In a process of its own: an OpenCV built for another numpy may end the one that imports it.
_PROBE = "import sys; sys.path = [p for p in sys.path if p]; import cv2; print(cv2.getBuildInformation())"


def findings(host: Host, board: jetson.Board | None, display: str, missing: str) -> list[Finding]:
    """The section `opencv`. `display` is where windows would be shown, `missing` why there is no such place, or ''."""
    done = host.run(host.python, "-c", _PROBE)
    build = done.text
    if done.code != 0:
        return [Finding("opencv", "import", f"fails: {done.last_line[:160]}", False, True, _import_cure(host, done))]
    ffmpeg, gstreamer = (re.search(rf"{name}:\s+YES", build) is not None for name in ("FFMPEG", "GStreamer"))
    window = re.search(r"GUI:\s+(\w+)", build)
    cure = source(board)
    return [
        *_which(host, board, gstreamer),
        Finding("opencv", "FFmpeg", "yes" if ffmpeg else "no: videos and streams cannot be read", ffmpeg, cure=cure),
        Finding("opencv", "GStreamer", "yes" if gstreamer else "no: --camera csi and gst: need it", gstreamer,
                cure=_gstreamer_cure(host, board)),
        Finding("opencv", "windows", window[1] if window else "none", window is not None and window[1] != "NONE",
                cure=f"pip uninstall -y opencv-python-headless, then {cure}"),
        Finding("opencv", "display", missing or display, not missing,
                cure="run on the desktop or with ssh -X; --serve, --save and --readings work without"),
    ]  # fmt: skip


def source(board: jetson.Board | None) -> str:
    """How to get an OpenCV that windows, videos and, on a Jetson, its cameras work with."""
    if board:
        return "sudo apt update && sudo apt install libopencv-python (JetPack's own)"
    return "pip install opencv-python"


def hidden(host: Host) -> tuple[str, str] | None:
    """(the folder whose cv2 is imported, the system's folder whose cv2 it hides), or None."""
    places = host.places("cv2")
    system = [place for place in places if jetson.SYSTEM.match(place)]
    return (places[0], system[0]) if system and places[0] not in system else None


def _which(host: Host, board: jetson.Board | None, gstreamer: bool) -> list[Finding]:
    places, found = host.places("cv2"), hidden(host)
    if found is None or gstreamer:  # one that was built with GStreamer may well hide another
        return [Finding("opencv", "folder", places[0])] if places and board else []
    first, system = found
    wheels = ", ".join(" ".join(wheel) for wheel in host.distributions(first, _WHEELS).items()) or "the OpenCV"
    whose = "JetPack's" if "libopencv-python" in host.packages else "the system's"
    value = f"{wheels} in {first} hides {whose} own in {system}, the one with GStreamer"
    return [Finding("opencv", "folder", value, False, cure=_uninstall(host, first))]


def _uninstall(host: Host, folder: str) -> str:
    sudo = "sudo " if folder.startswith("/usr/") else ""
    names = " ".join(host.distributions(folder, _WHEELS))
    if not names:
        return f"move {folder}/cv2 away: no wheel says that it installed it"
    cure = f"{sudo}{host.python} -m pip uninstall -y {names}"
    return f"{cure} && {_numpy_cure(host)}" if _numpy_major(host) >= 2 else cure


def _gstreamer_cure(host: Host, board: jetson.Board | None) -> str:
    found = hidden(host)
    if found:
        return _uninstall(host, found[0])
    if board is None:
        return "the system's own OpenCV (sudo apt install python3-opencv), not the wheel of PyPI"
    if "libopencv-python" not in host.packages:
        return source(board)
    return jetson.python_cure(host, board) or "sudo apt install --reinstall libopencv-python"


def _import_cure(host: Host, done: Done) -> str:
    if "numpy" in done.text.lower() and _numpy_major(host) >= 2:  # the system's own are built for numpy 1
        return _numpy_cure(host)
    return _UNBUILT


def _numpy_cure(host: Host) -> str:
    return f"{host.python} -m pip install 'numpy<2'"


def _numpy_major(host: Host) -> int:
    """Of the numpy that is imported, if a wheel brought it; else 0."""
    for place in host.places("numpy")[:1]:
        found = re.match(r"\d{1,4}", host.distributions(place, "numpy").get("numpy", ""))
        return int(found[0]) if found else 0
    return 0
