"""The cache of engines, and the process that builds them: whole or not there, built once, wrong ones put aside."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engine_kit
import pytest
from engine_kit import KEY
from fake_cuda import Gpu
from hypothesis import given, settings
from hypothesis import strategies as st
from kit_environment import kit_environment
from photo_kit import small_disk

from medtex_edge.bundle import Bundle
from medtex_edge.cli import main
from medtex_edge.errors import BackendError, StorageError
from medtex_edge.runtime.backend.tensorrt import runner
from medtex_edge.runtime.engines import build as engine_build
from medtex_edge.runtime.engines import cache as engine_cache
from medtex_edge.runtime.engines import key as engine_key
from medtex_edge.runtime.engines.cache import Cache
from medtex_edge.runtime.engines.key import EngineKey

PLAN = bytes(range(256)) * 40
OTHER = dataclasses.replace(KEY, graph_sha256="11" * 32)


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, messages: list[str]) -> Cache:
    return Cache(tmp_path / "engines", messages.append)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle on a device of its own, where `Cache()` is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(engine_kit.STARTS, str(tmp_path / "starts"))
    return engine_kit.bundle(tmp_path / "tiny.medtex")


def build(bundle: Bundle, how: str = "good", *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, engine_kit.__file__, how, "engine", "build", str(bundle.path), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=kit_environment())


def builds(tmp_path: Path) -> list[int]:
    """The processes that began to build."""
    path = tmp_path / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def files(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir() if path.name != ".lock")


def test_what_is_kept_comes_back_byte_for_byte_with_its_report(cache: Cache, messages: list[str]) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, PLAN, {"seconds": 3.5})
    assert cache.get(KEY) == PLAN
    (entry,) = cache.list()
    assert (entry.state, entry.key, entry.report) == ("ready", KEY, {"seconds": 3.5})
    assert entry.path.parent.stat().st_mode & 0o777 == 0o700
    assert messages == []


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(EngineKey)])
def test_an_engine_of_another_graph_gpu_tensorrt_or_driver_is_another_engine(cache: Cache, name: str) -> None:
    cache.put(KEY, PLAN, {})
    other = dataclasses.replace(KEY, **{name: "other"})
    assert cache.get(other) is None
    cache.put(other, b"other", {})
    assert (cache.get(KEY), cache.get(other)) == (PLAN, b"other")
    assert KEY.fits(other) == (name in ("graph_sha256", "precision"))


def test_what_is_built_is_kept_under_the_key_by_which_the_backend_finds_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gpu().install(monkeypatch)
    monkeypatch.setattr(runner, "module", lambda: SimpleNamespace(__name__="tensorrt", __version__="10.3.0"))
    monkeypatch.setattr(runner, "open_engine", lambda plan, contract, label: plan)
    key = engine_key.key_of(bundle, "fp16")
    Cache().put(key, PLAN, {})
    assert runner.open(bundle, precision="fp16") == PLAN
    assert key.graph_sha256 == bundle.manifest["model.fp16.onnx"]
    assert all(vars(key).values())


def test_an_engine_under_another_engines_name_is_removed_and_reported(cache: Cache, messages: list[str]) -> None:
    path = cache.put(KEY, PLAN, {})
    path.rename(path.with_name(f"{OTHER.name}.engine"))
    assert [entry.state for entry in cache.list()] == ["damaged"]
    assert cache.get(OTHER) is None
    assert len(messages) == 1
    assert "another graph, GPU, TensorRT or driver; removed" in messages[0]
    assert files(cache) == []


@settings(max_examples=150)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), how=st.sampled_from(["flip", "cut", "add"]))
def test_no_damage_goes_unnoticed_wherever_it_lies(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, how: str
) -> None:
    messages: list[str] = []
    cache = Cache(tmp_path_factory.mktemp("cache"), messages.append)
    path = cache.put(KEY, PLAN[:300], {"layers": ["a"]})
    content = bytearray(path.read_bytes())
    at = int(where * len(content))
    if how == "flip":
        content[at] ^= 1 << bit
    else:
        content[at:] = b"" if how == "cut" else content[at:] + b"\0"
    path.write_bytes(content)
    cache.list()
    assert cache.get(KEY) is None
    assert len(messages) == 1
    assert files(cache) == []


@pytest.mark.parametrize("kind", ["pipe", "another user's", "of another version", "empty"])
def test_what_is_no_engine_of_ours_is_never_read_as_one(cache: Cache, messages: list[str], kind: str) -> None:
    path = cache.put(KEY, PLAN, {})
    if kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif kind == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(path, 12345, 12345)
    else:
        path.write_bytes(b"" if kind == "empty" else path.read_bytes().replace(b"engine/1", b"engine/9", 1))
    assert cache.get(KEY) is None
    assert len(messages) == 1
    assert not path.exists()


def test_an_engine_that_was_refused_is_kept_aside_and_never_given_out(cache: Cache) -> None:
    cache.put(KEY, PLAN, {})
    path = cache.refuse(KEY, PLAN, "saliency differs by 0.3")
    assert cache.get(KEY) is None
    assert cache.refused(KEY).startswith("saliency differs by 0.3")
    assert cache.refused(OTHER) == ""
    assert path.read_bytes().endswith(PLAN), "it can be looked at"
    assert [(entry.state, entry.why) for entry in cache.list()] == [("refused", "saliency differs by 0.3")]
    cache.put(KEY, PLAN, {})
    assert cache.refused(KEY) == ""


def test_pruning_keeps_what_is_wanted_and_removes_what_killed_builds_left(cache: Cache) -> None:
    for key in (KEY, OTHER):
        cache.put(key, PLAN, {})
    other = dataclasses.replace(OTHER, driver="11.4")
    for name in (f".{KEY.name}.x1y2.engine", cache.timing_path(KEY).name, cache.timing_path(other).name):
        (cache.folder / name).write_bytes(PLAN)
    (cache.folder / "notes.txt").write_text("not ours")
    assert [entry.key for entry in cache.prune(lambda entry: entry.key == KEY)] == [OTHER]
    assert files(cache) == sorted([f"{KEY.name}.engine", cache.timing_path(KEY).name, "notes.txt"])


def test_a_full_disk_is_an_error_with_a_hint_and_leaves_nothing(cache: Cache) -> None:
    with small_disk(2000), pytest.raises(StorageError, match="cannot write") as caught:
        cache.put(KEY, PLAN, {})
    assert "medtex-edge engine prune" in caught.value.hint
    assert files(cache) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "engines")
    with pytest.raises(StorageError):
        cache.put(KEY, PLAN, {})
    with pytest.raises(StorageError), cache.building():
        pass


def test_the_folder_is_the_users_cache_and_no_relative_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache().folder == tmp_path / "medtex-edge" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache().folder == tmp_path / "home" / ".cache" / "medtex-edge" / "engines"


def test_a_write_that_is_killed_leaves_no_engine_and_the_next_build_removes_the_rest(cache: Cache) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom engine_kit import KEY\n"
        "from medtex_edge.runtime.engines.cache import Cache\n"
        "os.fsync = lambda file: (print('writing', flush=True), time.sleep(60))\n"
        f"cache = Cache(Path({str(cache.folder)!r}))\nwith cache.building(): cache.put(KEY, b'x' * 9999, {{}})\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=kit_environment())
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "writing\n"
        assert len(files(cache)) == 1, "its temporary file"
        cache.sweep()
        assert len(files(cache)) == 1, "of a build that runs"
        child.kill()
    assert cache.get(KEY) is None
    assert cache.list() == []
    with cache.building():
        assert files(cache) == []


def test_build_makes_proves_and_keeps_an_engine_and_reports_its_steps_as_json(bundle: Bundle, tmp_path: Path) -> None:
    child = build(bundle, "good", "--json")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    *steps, result = [json.loads(line) for line in out.splitlines()]
    assert [step["step"] for step in steps if step["step"] != "choosing kernels"] == ["proving"]
    assert [step["done"] for step in steps] == sorted(step["done"] for step in steps)
    assert (result["ok"], result["built"], result["state"], result["key"]["precision"]) == (True, True, "ready", "fp16")
    assert Cache().get(engine_kit.key_of(bundle)) == bundle.model("fp16")
    child = build(bundle)
    out, _ = child.communicate(timeout=60)
    assert (child.returncode, "is there already" in out) == (0, True)
    assert len(builds(tmp_path)) == 1


def test_two_builds_at_once_build_once(bundle: Bundle, tmp_path: Path) -> None:
    with Cache().building():  # both wait, so that they begin together
        children = [build(bundle, "good", "--json") for _ in range(2)]
        for child in children:
            assert child.stdout is not None
            assert json.loads(child.stdout.readline())["step"] == "waiting for another build"
    results = [json.loads(child.communicate(timeout=60)[0].splitlines()[-1]) for child in children]
    assert sorted(result["built"] for result in results) == [False, True]
    assert len(builds(tmp_path)) == 1


def test_a_build_that_is_killed_leaves_nothing_and_holds_up_nobody(bundle: Bundle, tmp_path: Path) -> None:
    child = build(bundle, "slow")
    until(lambda: builds(tmp_path))
    child.kill()
    child.communicate()
    assert files(Cache()) == []
    child = build(bundle)
    child.communicate(timeout=60)
    assert (child.returncode, len(files(Cache()))) == (0, 1)


def test_a_builder_ends_with_the_process_that_wanted_it_however_that_ends(bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, engine_kit.__file__, "slow", "engine", "build", str(bundle.path), "--parent"]
    code = f"import os, subprocess\nsubprocess.run([*{command!r}, str(os.getpid())])"
    parent = subprocess.Popen([sys.executable, "-c", code], env=kit_environment())
    until(lambda: builds(tmp_path))
    (builder,) = builds(tmp_path)
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:  # where orphans are not collected, it stays as a zombie
            return Path(f"/proc/{builder}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone)


@pytest.mark.parametrize(("how", "why"), [("wrong", "probabilities differ by"), ("nan", "expected numbers in 0..1")])
def test_an_engine_with_wrong_answers_is_put_aside_and_not_built_again_unless_requested(
    bundle: Bundle, tmp_path: Path, how: str, why: str
) -> None:
    for _ in range(2):
        child = build(bundle, how)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 3
        assert why in err
    assert len(builds(tmp_path)) == 1
    assert [entry.state for entry in Cache().list()] == ["refused"]
    child = build(bundle, "good", "--again")
    child.communicate(timeout=60)
    assert (child.returncode, len(builds(tmp_path))) == (0, 2)
    assert [entry.state for entry in Cache().list()] == ["ready"]


@pytest.mark.parametrize(("how", "code", "fragment"), [
    ("refuses", 7, "error: node /net/conv: no kernel to build it\n  hint: export it again\n"),
    ("full", 9, "medtex-edge engine prune"),
])  # fmt: skip
def test_a_build_that_fails_names_the_reason_and_leaves_nothing(
    bundle: Bundle, how: str, code: int, fragment: str
) -> None:
    child = build(bundle, how)
    _, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert fragment in err
    assert files(Cache()) == []


def test_list_and_prune_report_what_this_device_can_use(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_key, "key_of_graph", engine_kit.key)
    cache, mine = Cache(), engine_kit.key_of(bundle)
    assert main(["engine", "list"]) == 0
    assert "no engines in" in capsys.readouterr().out
    cache.put(mine, PLAN, {})
    cache.put(dataclasses.replace(mine, driver="11.4"), PLAN, {})
    cache.put(OTHER, PLAN, {})
    assert main(["engine", "list"]) == 0
    assert "Some GPU" in capsys.readouterr().out
    assert main(["engine", "list", "--json"]) == 0
    assert sorted(row["state"] for row in json.loads(capsys.readouterr().out)) == ["foreign", "ready", "ready"]
    assert main(["engine", "prune", "--json"]) == 0
    assert [row["key"]["driver"] for row in json.loads(capsys.readouterr().out)["removed"]] == ["11.4"]
    assert main(["engine", "prune", str(bundle.path)]) == 0
    assert [entry.key for entry in cache.list()] == [mine]
    assert main(["engine", "prune", "--all"]) == 0
    assert cache.list() == []


def test_without_tensorrt_nothing_is_pruned_that_might_be_of_use(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(graph_sha256: str, precision: str) -> EngineKey:
        raise BackendError("pycuda is missing", hint="install it")

    monkeypatch.setattr(engine_key, "key_of_graph", missing)
    Cache().put(KEY, PLAN, {})
    assert main(["engine", "prune"]) == 7
    assert "--all" in capsys.readouterr().err
    assert main(["engine", "build", str(bundle.path)]) == 7
    assert main(["engine", "list", "--json"]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["ready"]


def program(code: str) -> engine_build.BuildProcess:
    return engine_build.BuildProcess([sys.executable, "-c", code], lambda step, done: None)


@pytest.mark.parametrize(("code", "fragment"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
    ("import sys; print('a message of TensorRT'); sys.exit(7)", "could not be built: a message of TensorRT"),
    ("import sys; print('error: no room\\n  hint: make some'); sys.exit(9)", "could not be kept: no room"),
    ("import sys; sys.exit(3)", "exit code 3"),
    ("print('x' * 300_000 + '[]'); print('{\"step\": [], \"done\": \"much\"}'); raise SystemExit(1)", "could not be"),
])  # fmt: skip
def test_however_a_builder_ends_it_is_one_error(code: str, fragment: str) -> None:
    with pytest.raises(BackendError, match=fragment):
        program(code).run()


def test_a_builder_that_cannot_be_started_is_reported() -> None:
    with pytest.raises(BackendError, match="cannot be started"):
        engine_build.BuildProcess(["/no/such/program"], lambda step, done: None).run()


def test_a_builder_that_was_stopped_before_it_began_never_begins(tmp_path: Path) -> None:
    process = program(f"open({str(tmp_path / 'began')!r}, 'w')")
    process.stop()
    assert process.run() is False
    assert not (tmp_path / "began").exists()


def test_engines_are_listed_newest_first(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, day in ((OTHER, 2), (KEY, 3), (dataclasses.replace(KEY, driver="11.4"), 1)):
        clock = SimpleNamespace(now=lambda zone, day=day: datetime(2026, 11, day, tzinfo=zone))
        monkeypatch.setattr(engine_cache, "datetime", clock)
        cache.put(key, PLAN, {})
    assert [entry.created[:10] for entry in cache.list()] == ["2026-11-03", "2026-11-02", "2026-11-01"]
