"""Which camera a /dev/videoN is, so that it is found again under another number, and no other in its place.

The kernel hands numbers out in the order of plugging. What stays is the camera's own name (vendor, product, serial)
and the socket that it is plugged into. Another camera that took the number would look right and show another eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medtex_edge.errors import SourceError

SYSFS = Path("/sys/class/video4linux")
DEV = Path("/dev")
_BY_NAME = "v4l"  # /dev/v4l/by-id and by-path: links that udev makes again by itself


@dataclass(frozen=True)
class Identity:
    """What is known of a camera's node."""

    model: tuple[str, ...]  # vendor, product, serial number, the driver's name for it
    socket: str  # its address on the bus
    node: str  # which of the several nodes that one camera has
    serial: bool  # the camera has a number of its own


class Device:
    """A camera that may come back under another number."""

    def __init__(self, path: str) -> None:
        self.requested = path
        self._identity: Identity | None = None
        self._alone = True

    def find(self) -> str:
        """The path of this camera now. The first call remembers which it is.

        Raises `SourceError` where it is not there, or where others are there that cannot be told from it.
        """
        requested = Path(self.requested)
        if requested.is_relative_to(DEV / _BY_NAME):
            return self.requested
        if self._identity is None:
            if requested.exists():
                self._identity = _identity(requested.resolve().name)
                self._alone = sum(_alike(self._identity, other) for _, other in _all()) <= 1
            return self.requested
        return self._find_again(self._identity)

    def _find_again(self, identity: Identity) -> str:
        here = [(path, other) for path, other in _all() if _alike(identity, other)]
        same = [path for path, other in here if other.socket == identity.socket]
        if len(same) == 1:
            return same[0]
        if len(here) == 1 and (identity.serial or self._alone):
            return here[0][0]
        if here:
            raise SourceError(
                f"{len(here)} cameras look like it, none in its socket",
                hint="plug it into the socket where it was, or name it by /dev/v4l/by-path/...",
            )
        raise SourceError("no such device" if not Path(self.requested).exists() else "another camera has its number")


def _alike(identity: Identity | None, other: Identity) -> bool:
    return identity is not None and (identity.model, identity.node) == (other.model, other.node)


def _all() -> list[tuple[str, Identity]]:
    names = sorted(entry.name for entry in SYSFS.glob("video[0-9]*"))
    found = [(str(DEV / name), _identity(name)) for name in names if (DEV / name).exists()]
    return [(path, identity) for path, identity in found if identity is not None]


def _identity(name: str) -> Identity | None:
    """Of /dev/`name`; None where the kernel tells nothing (no sysfs, as in some containers)."""
    entry = SYSFS / name
    if not entry.exists():
        return None
    interface = (entry / "device").resolve()
    usb = interface.parent  # a USB camera's interface lies below the camera itself
    serial = _text(usb / "serial")
    model = (_text(usb / "idVendor"), _text(usb / "idProduct"), serial, _text(entry / "name"))
    return Identity(model, str(interface), _text(entry / "index"), bool(serial))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
