"""The checks of a Jetson: board, JetPack, power mode, clocks, memory. Files are read first, then tools run.

Files and their forms: tests/jetson/README.md names where each was found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medtex_edge.runtime.doctor.check import Check
from medtex_edge.runtime.doctor.probe import SystemProbe

FLASH = "flash JetPack 6.2 or 7.2: https://developer.nvidia.com/embedded/jetpack (docs/how-to/jetson.md)"
INSTALL = "sudo apt update && sudo apt install nvidia-jetpack"
# JetPack by its Jetson Linux (L4T), for boards without the package nvidia-jetpack.
_JETPACKS = {
    "36.2.0": "6.0", "36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1",
    "36.5.0": "6.2.2", "36.5.2": "6.2.3", "38.2.0": "7.0", "38.4.0": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1",
}  # fmt: skip
_PYTHONS = {36: (3, 10), 38: (3, 12), 39: (3, 12)}  # by L4T: the one that TensorRT and OpenCV are built for
SYSTEM = re.compile(r"/usr/lib/python3(\.\d+)?/dist-packages$")  # where Debian packages put Python modules
_GPUS = re.compile(r"\.(gpu|ga10b|gv11b)$|^gpu-gpc-0$")  # in /sys/class/devfreq: Orin, Xavier, Thor
_DLAS = ("sys/devices/platform/*host1x/*.nvdla*", "sys/devices/platform/bus@0/*host1x/*.nvdla*")
_LITTLE_MIB = 1536  # free memory below which an engine's build may be ended by the system
_DESKTOP = "sudo systemctl isolate multi-user.target (ends the desktop until the next start, and frees its memory)"


@dataclass(frozen=True)
class JetsonBoard:
    """A Jetson. `l4t` is its Jetson Linux as three numbers, such as '36.4.3', or ''."""

    model: str
    soc: str
    l4t: str

    @property
    def major(self) -> int:
        """The major version of L4T: 36 is JetPack 6, 38 and 39 JetPack 7; 0 where unknown."""
        return int(self.l4t.partition(".")[0] or 0)


def board(probe: SystemProbe) -> JetsonBoard | None:
    """The Jetson that `probe` reads, or None where it is another machine."""
    compatible = [name for name in probe.text("proc/device-tree/compatible").split("\0") if name]
    socs = re.findall(r"nvidia,(tegra\d{3})\b", ",".join(compatible))
    release = _release(probe)
    if not socs and not release:
        return None
    return JetsonBoard(probe.line("proc/device-tree/model") or "a Jetson", socs[-1] if socs else "", release)


def checks(probe: SystemProbe, board: JetsonBoard) -> list[Check]:
    """The section `jetson`."""
    return [
        Check("jetson", "board", f"{board.model}{f' ({board.soc})' if board.soc else ''}"),
        _jetpack(probe, board),
        _python(probe, board),
        _power(probe),
        _gpu_clock(probe),
        _cpu_clock(probe),
        _memory(probe),
        _dla(probe),
        _csi(probe),
    ]


def python_cure(probe: SystemProbe, board: JetsonBoard) -> str:
    """How this Python comes to see what JetPack installed, or '' where it does."""
    wanted = _PYTHONS.get(board.major)
    if (wanted and probe.version != wanted) or probe.base_prefix != "/usr":
        return "/usr/bin/python3 -m venv --system-site-packages ~/medtex, and install medtex-edge there"
    if probe.prefix != probe.base_prefix and not any(map(SYSTEM.match, probe.path)):
        return f"/usr/bin/python3 -m venv --system-site-packages {probe.prefix} (keeps what is installed there)"
    return ""


def _release(probe: SystemProbe) -> str:
    """L4T by /etc/nv_tegra_release ("# R36 (release), REVISION: 4.3, ..."), else by its core package."""
    text = probe.text("etc/nv_tegra_release")[:1000]
    found = re.search(r"# R(\d{1,3}) \(release\), REVISION: (\d{1,3})\.(\d{1,3})", text)
    return ".".join(found.groups()) if found else _core(probe)


def _core(probe: SystemProbe) -> str:
    found = re.match(r"\d{1,3}\.\d{1,3}\.\d{1,3}", probe.packages.get("nvidia-l4t-core", ""))
    return found[0] if found else ""


def _jetpack(probe: SystemProbe, board: JetsonBoard) -> Check:
    if not board.l4t:
        cure = "in a container: mount /etc/nv_tegra_release and /var/lib/dpkg read-only; else " + FLASH
        return Check("jetson", "JetPack", "unknown: no /etc/nv_tegra_release, no nvidia-l4t-core", False, cure=cure)
    package = re.split(r"[+-]b", probe.packages.get("nvidia-jetpack", ""))[0]
    version = package or _JETPACKS.get(board.l4t) or {36: "6", 38: "7", 39: "7"}.get(board.major, "")
    name = f"{version or 'of an unknown version'} (L4T {board.l4t})"
    if not package:
        name += ", nvidia-jetpack is not installed"
    if _core(probe) not in ("", board.l4t):
        name += f"; nvidia-l4t-core is {_core(probe)}"
    if board.major < 36:
        return Check("jetson", "JetPack", f"L4T {board.l4t} is too old: JetPack 6.1 is needed", False, cure=FLASH)
    if version.startswith("6.0"):
        old = f"{name} is too old: its TensorRT is 8.6, 10.3 is needed; ONNX Runtime serves"
        return Check("jetson", "JetPack", old, False, cure=FLASH)
    return Check("jetson", "JetPack", name)


def _python(probe: SystemProbe, board: JetsonBoard) -> Check:
    cure = python_cure(probe, board)
    value = "{}.{} of {}".format(*probe.version, probe.prefix)
    if not cure:
        return Check("jetson", "python", f"{value}, sees what JetPack installed")
    wanted = _PYTHONS.get(board.major)
    if wanted and probe.version != wanted:
        why = "JetPack's TensorRT and OpenCV are for {}.{}".format(*wanted)
    else:
        why = "sees neither JetPack's TensorRT nor its OpenCV"
    return Check("jetson", "python", f"{value}: {why}", False, cure=cure)


def _power(probe: SystemProbe) -> Check:
    reported = re.search(r"NV Power Mode\s*:\s*(\w+)", probe.run("nvpmodel", "-q").text)
    modes = dict(re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\w+)\s*>", probe.text("etc/nvpmodel.conf"), re.M))
    stored = re.search(r"pmode:0*(\d+)", probe.line("var/lib/nvpmodel/status"))
    name = reported[1] if reported else modes.get(stored[1], f"mode {stored[1]}") if stored else ""
    if not name:
        return Check("jetson", "power mode", "unknown", False, cure="sudo nvpmodel -q")
    # The fastest has neither the lowest nor the highest number: on an Orin Nano Super 0 is 15W and 3 is 7W.
    fastest = next((key for want in ("MAXN_SUPER", "MAXN") for key, mode in modes.items() if mode == want), "")
    advice = ""
    if fastest and modes[fastest] != name:
        advice = f"sudo nvpmodel -m {fastest} ({modes[fastest]}, without limits: supply and cooling must allow it)"
    others = f" of {', '.join(modes.values())}" if modes else ""
    return Check("jetson", "power mode", name + others, advice=advice)


def _gpu_clock(probe: SystemProbe) -> Check:
    governor, low, high, now = "", None, None, None
    for folder in probe.glob("sys/class/devfreq/*"):
        if _GPUS.search(folder.rpartition("/")[2]):
            low, high, now = (probe.number(f"{folder}/{name}_freq") for name in ("min", "max", "cur"))
            governor = probe.line(f"{folder}/governor")
            break
    if high is None:
        shown = probe.run("jetson_clocks", "--show").text  # answers root alone
        line = re.search(r"^GPU MinFreq=(\d{1,12}) MaxFreq=(\d{1,12}) CurrentFreq=(\d{1,12})", shown, re.MULTILINE)
        low, high, now = map(int, line.groups()) if line else (None, None, None)
    if low is None or high is None:
        return Check("jetson", "GPU clock", "unknown", False, cure="sudo jetson_clocks --show")
    if low == high:
        return Check("jetson", "GPU clock", f"{high // 1_000_000} MHz, fixed")
    value = f"{low // 1_000_000} to {high // 1_000_000} MHz{'' if now is None else f', {now // 1_000_000} now'}"
    advice = "sudo jetson_clocks (until the next start: holds the clocks, so that no frame waits for them to rise)"
    return Check("jetson", "GPU clock", value + (f", governor {governor}" if governor else ""), advice=advice)


def _cpu_clock(probe: SystemProbe) -> Check:
    policies = probe.glob("sys/devices/system/cpu/cpufreq/policy*")
    governors = {probe.line(f"{policy}/scaling_governor") for policy in policies} - {""}
    highs = [probe.number(f"{policy}/scaling_max_freq") for policy in policies]
    if not governors:
        shown = re.findall(r"Governor=(\w+) MinFreq=\d+ MaxFreq=(\d{1,12})", probe.run("jetson_clocks", "--show").text)
        governors, highs = {governor for governor, _ in shown}, [int(high) for _, high in shown]
    found = [high // 1000 for high in highs if high]
    if not governors or not found:
        return Check("jetson", "CPU clock", "unknown", False, cure="sudo jetson_clocks --show")
    online = probe.line("sys/devices/system/cpu/online")
    cores = f", cores {online} on" if online else ""
    return Check("jetson", "CPU clock", f"up to {max(found)} MHz, governor {', '.join(sorted(governors))}{cores}")


def _memory(probe: SystemProbe) -> Check:
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d{1,15}) kB", probe.text("proc/meminfo"), re.M)}
    if "MemTotal" not in kib:
        return Check("jetson", "memory", "unknown: /proc/meminfo does not have it", False, cure="free -m")
    swaps = re.findall(r"^(\S+)\s+\w+\s+(\d{1,15})\s", probe.text("proc/swaps"), re.MULTILINE)
    swap, zram = (sum(int(size) for name, size in swaps if part in name) >> 10 for part in ("", "/zram"))
    total, free = kib["MemTotal"] >> 10, kib.get("MemAvailable", 0) >> 10
    value = f"{total} MiB for CPU and GPU together, {free} free; swap {swap} MiB" + (f" ({zram} zram)" if zram else "")
    return Check("jetson", "memory", value, advice=_DESKTOP if free < _LITTLE_MIB else "")


def _dla(probe: SystemProbe) -> Check:
    cores = {path.rpartition(".")[2] for pattern in _DLAS for path in probe.glob(pattern)}
    return Check("jetson", "DLA", f"{len(cores)} (not used)" if cores else "none on this board (not needed)")


def _csi(probe: SystemProbe) -> Check:
    version = probe.packages.get("nvidia-l4t-gstreamer", "")
    cure = "sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera"
    value = version or "missing: only --camera csi needs it"
    return Check("jetson", "CSI camera", f"nvidia-l4t-gstreamer {value}", bool(version), cure=cure)
