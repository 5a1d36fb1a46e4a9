"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from medtex_edge.errors import StorageError
from medtex_edge.files import atomic_path, atomic_write, sha256, storage, write_json


def write_half(path: Path, error: BaseException) -> None:
    with atomic_write(path) as file:
        file.write(b"half")
        raise error


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("grüße")
        assert not path.exists()
    assert path.read_text("utf-8") == "grüße"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(StorageError, match="No space left") as caught:
        write_half(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "free some space" in caught.value.hint
    assert caught.value.exit_code == 9
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_name_keeps_the_suffix_that_writers_choose_their_format_by(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "overlay.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")
    assert (tmp_path / "overlay.png").read_bytes() == b"x"


def test_others_may_read_the_file_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_file_where_a_folder_is_needed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"), atomic_write(tmp_path / "file" / "a"):
        pass


def test_a_folder_where_a_file_is_written_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match="cannot write"), atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert (tmp_path / "a").is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_errors_of_the_system_carry_their_hint(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read") as caught, storage(tmp_path, "read"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert "read-only" in caught.value.hint


def test_json_is_written_readable_and_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"b": [1, 2.5, None]}
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text("utf-8") == text


def test_sums_are_those_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
