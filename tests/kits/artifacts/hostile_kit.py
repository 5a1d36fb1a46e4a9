"""Writes bundles that are damaged or lie, and takes the line that refuses them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from medtex_edge import archive, strictjson
from medtex_edge.bundle import Bundle
from medtex_edge.errors import BundleError

Members = dict[str, bytes]


def refusal(path: Path, content: bytes) -> str:
    """Write `content`, open it, and return the one line that refuses it."""
    path.write_bytes(content)
    before = sorted(path.parent.iterdir())
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.exit_code == 3
    assert sorted(path.parent.iterdir()) == before
    return caught.value.message


def members_of(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def sealed(members: Members) -> bytes:
    """A well-formed archive of `members` with sums that hold: what a liar who knows the format would write."""
    listed = {name: content for name, content in members.items() if name != "manifest.json"}
    sums = {n: {"sha256": hashlib.sha256(c).hexdigest(), "size": len(c)} for n, c in listed.items()}
    return raw([("manifest.json", strictjson.dumps({"schema": 1, "members": sums})), *listed.items()])


def raw(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    archive.write(file, members)
    return file.getvalue()
