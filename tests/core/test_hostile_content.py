"""Golden vectors and JSON of a bundle from a stranger: one clear line refuses what cannot be."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_kit import CONTRACT, golden
from hostile_kit import members_of, raw, refusal, sealed
from hypothesis import given, settings
from hypothesis import strategies as st

from medtex_edge import archive, golden_vectors, strictjson
from medtex_edge.bundle import Bundle
from medtex_edge.errors import BundleError


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    members = []
    for name, array in arrays.items():
        content = io.BytesIO()
        np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=True)
        members.append((f"{name}.npy", content.getvalue()))
    archive.write(file, members)
    return file.getvalue()


GOOD = {field.name: getattr(golden(), field.name) for field in dataclasses.fields(golden())}


def test_numpys_own_array_files_are_read(toy: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.medtex").write_bytes(sealed({**members_of(toy), "golden.npz": npz(**GOOD)}))
    np.testing.assert_array_equal(Bundle.open(tmp_path / "x.medtex").golden.images, GOOD["images"])


@pytest.mark.parametrize(
    "change",
    [
        {"images": GOOD["images"].astype(np.float32)},
        {"images": GOOD["images"][:1]},
        {"images": np.asfortranarray(GOOD["images"])},
        {"images": np.array([os.getpid], dtype=object)},  # a pickle
        {"probabilities": GOOD["probabilities"].astype(np.float64)},
        {"probabilities": GOOD["probabilities"].astype(">f4")},
        {"probabilities": GOOD["probabilities"] * np.float32(0.9)},
        {"probabilities": GOOD["probabilities"] - np.float32(0.5)},
        {"probabilities": GOOD["probabilities"] * np.float32("inf")},
        {"saliency": GOOD["saliency"] + np.float32(1)},
        {"saliency": GOOD["saliency"] * np.float32("nan")},
        {"saliency": GOOD["saliency"][..., None]},
        {"saliency": np.zeros((), np.float32)},
    ],
)
def test_golden_vectors_that_cannot_be_are_refused(toy: bytes, tmp_path: Path, change: dict[str, Any]) -> None:
    content = npz(**{**GOOD, **change})
    message = refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "golden.npz": content}))
    assert "golden.npz" in message


def test_golden_vectors_with_members_too_many_or_too_few_are_refused(toy: bytes, tmp_path: Path) -> None:
    few = {name: GOOD[name] for name in ("images", "saliency")}
    for arrays in (few, {**GOOD, "more": GOOD["images"]}, {**few, "other": GOOD["probabilities"]}):
        refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "golden.npz": npz(**arrays)}))
    refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "golden.npz": b"x"}))


def test_a_shape_beyond_all_memory_is_refused_by_its_header(toy: bytes, tmp_path: Path) -> None:
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999, 9, 3), }\n"
    forged = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    content = raw([("images.npy", forged), *[(f"{n}.npy", _npy(GOOD[n])) for n in ("probabilities", "saliency")]])
    assert "golden.npz" in refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "golden.npz": content}))


def test_a_header_is_matched_and_never_evaluated(toy: bytes, tmp_path: Path) -> None:
    for head in (b"__import__('os').getpid()\n", b"(" * 2000 + b"\n", b""):
        forged = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
        content = raw([("images.npy", forged), *[(f"{n}.npy", _npy(GOOD[n])) for n in ("probabilities", "saliency")]])
        message = refusal(tmp_path / "x.medtex", sealed({**members_of(toy), "golden.npz": content}))
        assert "npy header" in message


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_golden_vectors_with_any_byte_changed_are_read_as_they_were_or_refused(place: float, flip: int) -> None:
    content = bytearray(golden_vectors.pack(golden(), CONTRACT))
    content[int(place * len(content))] ^= flip
    with pytest.raises(BundleError):
        golden_vectors.unpack(bytes(content), CONTRACT)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**17), 10**17)
        | st.floats(width=32).filter(math.isfinite)
        | st.text(),
        lambda value: st.lists(value) | st.dictionaries(st.text(), value),
        max_leaves=20,
    )
)
def test_any_plain_value_survives_our_json(value: Any) -> None:
    try:
        content = strictjson.dumps(value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert strictjson.loads(content, "x") == value


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\0123456789.eE-+ntfu ').map(str.encode))
def test_json_of_any_bytes_is_a_value_or_one_error(content: bytes) -> None:
    try:
        strictjson.loads(content, "x")
    except BundleError as error:
        assert "\n" not in error.message  # noqa: PT017


def test_the_crc_is_that_of_the_content(toy: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(toy)) as file:
        assert all(zlib.crc32(file.read(info)) == info.CRC for info in file.infolist())
