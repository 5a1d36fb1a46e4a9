"""A bundle comes from a stick or a network: whatever is wrong with it is one clear line, and nothing is run."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_kit import CONTRACT, contract
from hostile_kit import Members, members_of, raw, refusal, sealed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtex_edge import strictjson
from medtex_edge.bundle import Bundle
from medtex_edge.errors import BundleError

FIXTURE = [HealthCheck.function_scoped_fixture]


def zipped(members: Members, add: Callable[[zipfile.ZipFile], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same members written by another zip program, plus what `add` does to it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive_file:
        for name, content in members.items():
            archive_file.writestr(zipfile.ZipInfo(name), content, compression)
        add(archive_file)
    return file.getvalue()


def entries(content: bytes) -> list[int]:
    """Where each entry of the zip's directory begins; golden.npz within has a directory of its own."""
    (at,) = struct.unpack("<I", content[-6:-2])
    return [at + match.start() for match in re.finditer(b"PK\1\2", content[at:])]


# --- damage ---------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None, suppress_health_check=FIXTURE)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_byte_changed_anywhere_is_refused(toy: bytes, tmp_path: Path, place: float, flip: int) -> None:
    at = int(place * len(toy))
    refusal(tmp_path / "x.medtex", toy[:at] + bytes([toy[at] ^ flip]) + toy[at + 1 :])


def test_every_byte_of_the_headers_counts(toy: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(toy)) as file:
        starts = [(info.header_offset, 30 + len(info.filename)) for info in file.infolist()]
        directory = file.start_dir
    places = [at for start, size in starts for at in range(start, start + size)]
    for at in [*places, *range(directory, len(toy))]:
        refusal(tmp_path / "x.medtex", toy[:at] + bytes([toy[at] ^ 1]) + toy[at + 1 :])


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURE)
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(toy: bytes, tmp_path: Path, place: float) -> None:
    refusal(tmp_path / "x.medtex", toy[: int(place * len(toy))])


@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURE)
@given(extra=st.binary(min_size=1, max_size=64))
def test_bytes_before_or_behind_are_refused(toy: bytes, tmp_path: Path, extra: bytes) -> None:
    refusal(tmp_path / "x.medtex", toy + extra)
    refusal(tmp_path / "x.medtex", extra + toy)


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURE)
@given(content=st.binary(max_size=200), magic=st.booleans())
def test_arbitrary_bytes_are_refused(tmp_path: Path, content: bytes, magic: bool) -> None:
    refusal(tmp_path / "x.medtex", b"PK\3\4" * magic + content)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        Bundle.open(tmp_path / "missing.medtex")
    with pytest.raises(BundleError, match="folder or device"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="folder or device"):
        Bundle.open("/dev/zero")
    os.mkfifo(tmp_path / "pipe.medtex")
    with pytest.raises(BundleError, match="folder or device"):
        Bundle.open(tmp_path / "pipe.medtex")


def test_a_text_file_and_an_empty_file_are_named_as_what_they_are(tmp_path: Path) -> None:
    message = refusal(tmp_path / "a.medtex", b"Dear doctor, the model is attached.\n")
    assert "a zip archive" in message
    assert "b'Dear'" in message
    assert "0 bytes" in refusal(tmp_path / "b.medtex", b"")


# --- zips that another program made ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", "C:x", "sub/contract.json", "..", ".", "", "x\n", "é"],
)
def test_a_name_that_is_no_plain_file_name_is_refused(toy: bytes, tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path / "x.medtex", zipped(members_of(toy), lambda z: z.writestr(_info(name), b"x")))
    assert "plain file names" in message


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")  # which would mend some of these names
    info.filename = name
    return info


def test_a_member_of_unknown_name_is_refused(toy: bytes, tmp_path: Path) -> None:
    message = refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "autorun.sh": b"rm"}))
    assert "no members but manifest.json" in message
    assert "'autorun.sh'" in message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_given_twice_is_refused(toy: bytes, tmp_path: Path) -> None:
    content = zipped(members_of(toy), lambda z: z.writestr("contract.json", b"{}"))
    assert "two of that name" in refusal(tmp_path / "x.medtex", content)


def test_compression_is_refused_so_that_no_bomb_goes_off(toy: bytes, tmp_path: Path) -> None:
    members = {**members_of(toy), "model.fp32.onnx": bytes(10_000_000)}
    content = zipped(members, lambda _: None, zipfile.ZIP_DEFLATED)
    assert len(content) < 100_000
    assert "compressed" in refusal(tmp_path / "x.medtex", content)


def test_a_link_is_refused(toy: bytes, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("NOTICE.txt")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    message = refusal(tmp_path / "x.medtex", zipped(members_of(toy), lambda z: z.writestr(link, "/etc/passwd")))
    assert "a link" in message


def test_an_encrypted_member_is_refused(toy: bytes, tmp_path: Path) -> None:
    at = entries(toy)[-1]
    content = bytearray(toy)
    content[at + 8] |= 1
    assert "encrypted" in refusal(tmp_path / "x.medtex", bytes(content))


def test_a_repacked_bundle_is_refused_even_if_its_content_is_right(toy: bytes, tmp_path: Path) -> None:
    assert "not written by medtex-edge" in _tail(
        refusal(tmp_path / "x.medtex", zipped(members_of(toy), lambda _: None))
    )


def _tail(message: str) -> str:
    # Depending on the zip program the difference shows in the local headers first or in the directory.
    return message.replace("one that differs", "not written by medtex-edge")


def test_overlapping_members_are_refused(toy: bytes, tmp_path: Path) -> None:
    first, second = entries(toy)[:2]
    content = bytearray(toy)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    assert "right behind the last" in refusal(tmp_path / "x.medtex", bytes(content))


def test_a_size_that_is_stated_but_not_there_reserves_no_memory(toy: bytes, tmp_path: Path) -> None:
    content = bytearray(toy)
    at = entries(toy)[1]
    content[at + 20 : at + 28] = struct.pack("<II", 1 << 19, 1 << 19)
    refusal(tmp_path / "x.medtex", bytes(content))
    content[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF)
    assert "bytes, got 4294967295" in refusal(tmp_path / "x.medtex", bytes(content))


def test_too_many_members_are_refused_by_their_number(tmp_path: Path) -> None:
    content = raw([("contract.json", b"{}")] * 40)
    assert "members, got 40" in refusal(tmp_path / "x.medtex", content)


# --- a liar who knows the format ------------------------------------------------------------------------------


def test_the_liars_tool_itself_makes_good_bundles(toy: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.medtex").write_bytes(sealed(members_of(toy)))
    assert Bundle.open(tmp_path / "x.medtex").contract == CONTRACT


@pytest.mark.parametrize("name", ["contract.json", "report.json", "golden.npz", "model.fp32.onnx"])
def test_a_missing_member_is_named(toy: bytes, tmp_path: Path, name: str) -> None:
    members = members_of(toy)
    del members[name]
    assert f"a member {name}, got none" in refusal(tmp_path / "x.medtex", sealed(members))


def test_a_manifest_at_odds_with_the_file_is_refused(toy: bytes, tmp_path: Path) -> None:
    members = members_of(toy)
    manifest = json.loads(members["manifest.json"])

    def with_manifest(value: Any) -> str:
        return refusal(tmp_path / "x.medtex", raw([*{**members, "manifest.json": strictjson.dumps(value)}.items()]))

    listed = manifest["members"]
    assert "not in the manifest" in with_manifest({**manifest, "members": {}})
    assert "not in the file" in with_manifest({**manifest, "members": {**listed, "NOTICE.txt": listed["golden.npz"]}})
    assert "schema 1, got '2'" in with_manifest({**manifest, "schema": 2})
    assert "schema 1, got 'True'" in with_manifest({**manifest, "schema": True})
    assert "schema and members" in with_manifest([])
    assert "schema and members" in with_manifest({**manifest, "more": 1})
    for entry in (None, "x", {}, {"sha256": 1, "size": 2}, {**listed["golden.npz"], "more": 1}):
        assert "golden.npz" in with_manifest({**manifest, "members": {**listed, "golden.npz": entry}})
    wrong = {"sha256": "0" * 64, "size": listed["golden.npz"]["size"]}
    assert "golden.npz: expected sha256" in with_manifest({**manifest, "members": {**listed, "golden.npz": wrong}})
    wrong = {**listed["golden.npz"], "size": 7}
    assert "bytes, got '7'" in with_manifest({**manifest, "members": {**listed, "golden.npz": wrong}})


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"not json", "expected JSON"),
        (b"", "1 to 1048576 bytes"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b"[" * 100_000, "levels"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "levels"),
        (b'{"height": NaN}', "numbers, got NaN"),
        (b'{"height": -Infinity}', "numbers, got -Infinity"),
        (b'{"height": 1e999}', "numbers, got 1e999"),
        (b'{"height": ' + b"9" * 6000 + b"}", "numbers, got 999"),
        (b'{"name": 1, "name": 2}', "'name' twice"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b'{"name": "' + b"\\" * 20_001 + b'"}', "expected JSON"),
        (b"[]", "an object"),
        (b"{}", "all of its fields"),
        (b'"', "expected JSON"),
    ],
)
def test_json_that_is_out_of_hand_is_refused(toy: bytes, tmp_path: Path, content: bytes, fragment: str) -> None:
    assert fragment in refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "contract.json": content}))


def test_a_report_that_is_no_object_is_refused(toy: bytes, tmp_path: Path) -> None:
    assert "report.json" in refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "report.json": b"[]"}))


def test_a_contract_that_lies_about_shapes_is_at_odds_with_the_golden_vectors(toy: bytes, tmp_path: Path) -> None:
    for change in ({"height": 300}, {"saliency_width": 3}, {"classes": ("a", "b", "c", "d")}):
        lie = strictjson.dumps(contract(**change).to_json())
        message = refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "contract.json": lie}))
        assert "as in the contract" in message
