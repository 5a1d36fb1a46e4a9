"""The checks of OpenCV: which one is imported, what it was built with, and which other one it hides.

The wheel of PyPI comes without GStreamer. In an environment that sees the system's packages its folder lies before
theirs, so that installing it, or anything that depends on it, hides JetPack's own, which has GStreamer.
"""

from __future__ import annotations

import re

from medtex_edge.runtime.doctor import jetson
from medtex_edge.runtime.doctor.check import Check
from medtex_edge.runtime.doctor.probe import SystemProbe, ToolResult

_WHEELS = r"opencv(-contrib)?-python(-headless)?(-rolling)?"
_UNBUILT = "sudo apt install libgl1 libglib2.0-0, or pip install opencv-python-headless (no window)"
# In a process of its own: an OpenCV built for another numpy may end the one that imports it.
_PROBE = "import sys; sys.path = [p for p in sys.path if p]; import cv2; print(cv2.getBuildInformation())"


def checks(probe: SystemProbe, board: jetson.JetsonBoard | None, display: str, missing: str) -> list[Check]:
    """The section `opencv`. `display` is where windows would be shown, `missing` why there is no such place, or ''."""
    done = probe.run(probe.python, "-c", _PROBE)
    build = done.text
    if done.code != 0:
        return [Check("opencv", "import", f"fails: {done.last_line[:160]}", False, True, _import_cure(probe, done))]
    ffmpeg, gstreamer = (re.search(rf"{name}:\s+YES", build) is not None for name in ("FFMPEG", "GStreamer"))
    window = re.search(r"GUI:\s+(\w+)", build)
    cure = source(board)
    return [
        *_which(probe, board, gstreamer),
        Check("opencv", "FFmpeg", "yes" if ffmpeg else "no: videos and streams cannot be read", ffmpeg, cure=cure),
        Check("opencv", "GStreamer", "yes" if gstreamer else "no: --camera csi and gst: need it", gstreamer,
                cure=_gstreamer_cure(probe, board)),
        Check("opencv", "windows", window[1] if window else "none", window is not None and window[1] != "NONE",
                cure=f"pip uninstall -y opencv-python-headless, then {cure}"),
        Check("opencv", "display", missing or display, not missing,
                cure="run on the desktop or with ssh -X; --serve, --save and --readings work without"),
    ]  # fmt: skip


def source(board: jetson.JetsonBoard | None) -> str:
    """How to get an OpenCV that windows, videos and, on a Jetson, its cameras work with."""
    if board:
        return "sudo apt update && sudo apt install libopencv-python (JetPack's own)"
    return "pip install opencv-python"


def hidden(probe: SystemProbe) -> tuple[str, str] | None:
    """(the folder whose cv2 is imported, the system's folder whose cv2 it hides), or None."""
    places = probe.places("cv2")
    system = [place for place in places if jetson.SYSTEM.match(place)]
    return (places[0], system[0]) if system and places[0] not in system else None


def _which(probe: SystemProbe, board: jetson.JetsonBoard | None, gstreamer: bool) -> list[Check]:
    places, found = probe.places("cv2"), hidden(probe)
    if found is None or gstreamer:  # one that was built with GStreamer may well hide another
        return [Check("opencv", "folder", places[0])] if places and board else []
    first, system = found
    wheels = ", ".join(" ".join(wheel) for wheel in probe.distributions(first, _WHEELS).items()) or "the OpenCV"
    whose = "JetPack's" if "libopencv-python" in probe.packages else "the system's"
    value = f"{wheels} in {first} hides {whose} own in {system}, the one with GStreamer"
    return [Check("opencv", "folder", value, False, cure=_uninstall(probe, first))]


def _uninstall(probe: SystemProbe, folder: str) -> str:
    sudo = "sudo " if folder.startswith("/usr/") else ""
    names = " ".join(probe.distributions(folder, _WHEELS))
    if not names:
        return f"move {folder}/cv2 away: it belongs to no installed wheel"
    cure = f"{sudo}{probe.python} -m pip uninstall -y {names}"
    return f"{cure} && {_numpy_cure(probe)}" if _numpy_major(probe) >= 2 else cure


def _gstreamer_cure(probe: SystemProbe, board: jetson.JetsonBoard | None) -> str:
    found = hidden(probe)
    if found:
        return _uninstall(probe, found[0])
    if board is None:
        return "the system's own OpenCV (sudo apt install python3-opencv), not the wheel of PyPI"
    if "libopencv-python" not in probe.packages:
        return source(board)
    return jetson.python_cure(probe, board) or "sudo apt install --reinstall libopencv-python"


def _import_cure(probe: SystemProbe, done: ToolResult) -> str:
    if "numpy" in done.text.lower() and _numpy_major(probe) >= 2:  # the system's own are built for numpy 1
        return _numpy_cure(probe)
    return _UNBUILT


def _numpy_cure(probe: SystemProbe) -> str:
    return f"{probe.python} -m pip install 'numpy<2'"


def _numpy_major(probe: SystemProbe) -> int:
    """Of the numpy that is imported, if a wheel brought it; else 0."""
    for place in probe.places("numpy")[:1]:
        found = re.match(r"\d{1,4}", probe.distributions(place, "numpy").get("numpy", ""))
        return int(found[0]) if found else 0
    return 0
