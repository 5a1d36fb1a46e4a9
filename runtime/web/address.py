"""Where the page is served, and to whom: other machines only with a token."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtex_edge.errors import SettingsError

HOST, PORT = "127.0.0.1", 8710
TOKEN_VARIABLE = "MEDTEX_EDGE_TOKEN"
SHORTEST_TOKEN = 16  # characters; a random one of that length cannot be guessed over a network
_BACKLOG = 32


@dataclass(frozen=True)
class Address:
    """A host, as a name or a number, and a port; port 0 means any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """`HOST:PORT`, `HOST`, `PORT` or `[IPv6]:PORT`. Raises `SettingsError`."""
    host, port = HOST, str(PORT)
    if text.isdigit():
        port = text
    elif text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") > 1:
        host = text
    else:
        before, colon, after = text.partition(":")
        host, port = before or host, after if colon else port
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or not _is_host(host):
        raise SettingsError(
            f"--serve: expected an address such as {HOST}:{PORT}, got {text}",
            hint="a bundle goes before the option: medtex-edge run eye.medtex --serve",
        )
    return Address(host, int(port))


def read_token(path: Path | None) -> str:
    """The token of the file, else of the variable MEDTEX_EDGE_TOKEN, else ''. Raises `SettingsError`."""
    where = f"--token-file {path}" if path is not None else TOKEN_VARIABLE
    try:
        token = path.read_text(encoding="utf-8").strip() if path is not None else os.environ.get(TOKEN_VARIABLE, "")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: {error}", hint="name a text file with the token alone") from error
    if path is None and not token:
        return ""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            f"{where}: expected {SHORTEST_TOKEN} printable ASCII characters or more without spaces, "
            f"got {len(token)} characters",
            hint="make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )
    return token


def listen(address: Address, token: str) -> socket.socket:
    """A socket that listens there. Raises `SettingsError`: no token, no such address, the port is taken."""
    try:
        family, _, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(f"--serve {address}: there is no such address ({error.strerror})") from error
    if not _loopback(place) and not token:
        raise SettingsError(
            f"--serve {address} can be reached from other machines, and whoever can reach it sees the pictures: "
            "expected a token",
            hint=f"--token-file FILE or {TOKEN_VARIABLE}; or serve on {HOST} and forward it: "
            f"ssh -L {address.port}:{HOST}:{address.port} THIS_MACHINE",
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(f"--serve {address}: {error.strerror}", hint=_cure(error, address)) from error
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return _loopback(listener.getsockname())


def names(address: Address) -> frozenset[str]:
    """The host names that a browser may request; any other is a page that was rebound to this address."""
    return frozenset({"localhost", address.host.lower(), socket.gethostname().lower()}) | {
        f"{socket.gethostname().lower()}.local"
    }


def _loopback(place: tuple[Any, ...]) -> bool:
    return ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback


def _cure(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program listens there (ss -ltnp 'sport = :{address.port}'); --serve {address.host}:0 takes any"
    if error.errno == errno.EACCES:
        return "ports below 1024 belong to root: choose a higher one"
    return "choose an address of this machine (ip address)"


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        # A name: not a path, not a file that stood after the option.
        return bool(text) and all(c.isalnum() or c in "-." for c in text) and Path(text).suffix != ".medtex"
    return True
