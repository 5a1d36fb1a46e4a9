"""Several processes train as one: equal losses and weights, checkpoints for any number of them, one error message."""

from __future__ import annotations

import copy
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scale_worker
import torch
from click.testing import CliRunner
from run_kit import write_photographs
from torch import nn

from medtex_edge.errors import SettingsError
from medtex_edge.train.compute import processes
from medtex_edge.train.compute.processes import Group, count_in_last, draw_rows, seeded_step, slice_size
from medtex_edge.train.data.augment import Augment
from medtex_edge.train.data.batches import batches
from medtex_edge.train.losses.masks import random_masks

pytest.importorskip("accelerate", reason="several processes need accelerate: pip install 'medtex-edge[train]'")
WORKER = Path(scale_worker.__file__)
GONE = "another process of this training ended without a message"
ENDED = "this training was ended from outside (SIGTERM)"


def _launch(arguments: list[str], count: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a script or module as `count` processes of this machine. `--standalone` finds a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        [*launcher, *arguments], env=environment, capture_output=True, text=True, timeout=1800, check=False
    )


def _two(folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    return _launch([str(WORKER), str(folder), mode])


def _found(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    assert scale_worker.main(folder, "whole") == 0
    return _found(folder)


def _same(one: dict[str, Any], two: dict[str, Any], last: int | None = None) -> None:
    assert (one["processes"], two["processes"]) == (1, 2)
    for a, b in zip(one["steps"][-(last or 0) :], two["steps"][-(last or 0) :], strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    assert one["history"] == pytest.approx(two["history"], rel=1e-6)
    np.testing.assert_allclose(one["weights"], two["weights"], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one_with_the_whole_batch(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    done = _two(tmp_path / "two", "whole")
    assert done.returncode == 0, done.stderr
    assert len(alone["steps"]) == 12
    _same(alone, _found(tmp_path / "two"))


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(alone: dict[str, Any], tmp_path: Path) -> None:
    assert scale_worker.main(tmp_path / "run", "stop") == 130
    done = _two(tmp_path / "run", "whole")
    assert done.returncode == 0, done.stderr
    _same(alone, _found(tmp_path / "run"), last=8)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one(alone: dict[str, Any], tmp_path: Path) -> None:
    assert _two(tmp_path / "run", "stop").returncode != 0
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert scale_worker.main(tmp_path / "run", "whole") == 0
    found = _found(tmp_path / "run")
    assert len(found["steps"]) == 8
    assert found["steps"] == [pytest.approx(step, rel=1e-6) for step in alone["steps"][-8:]]
    np.testing.assert_allclose(found["weights"], alone["weights"], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail", "this process has had enough"),
        ("nan", "the loss became nan in only, epoch 1, by label, size"),
        ("vanish", GONE),
        ("vanish far", ENDED),
    ],
)
def test_what_fails_in_one_process_ends_all_with_one_error(tmp_path: Path, mode: str, message: str) -> None:
    done = _two(tmp_path, mode)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    # The other process and the launcher race to detect that a process is gone; one of them reports it.
    assert errors in [[f"error: {each}"] for each in ((GONE, ENDED) if message == GONE else (message,))], done.stderr
    assert not (tmp_path / "found.json").exists()


@pytest.mark.slow
def test_the_train_command_under_torchrun_writes_one_run_with_the_same_losses(tmp_path: Path) -> None:
    from medtex_edge.cli import cli

    photographs = write_photographs(tmp_path / "photographs", 40)
    small = ["--size", "64", "--precision", "fp32", "--batch", "32", "--data", str(photographs)]
    teacher = ["train-teacher", "--model", "test_efficientnet", "--model-weights", "none", "--epochs", "1", *small]
    assert CliRunner().invoke(cli, [*teacher, "--out", str(tmp_path / "teacher")]).exit_code == 0
    student = [
        "train", "--student", "test_efficientnet", "--student-weights", "none", "--teacher", str(tmp_path / "teacher"),
        "--epochs", "2", "--joint-epochs", "1", *small,
    ]  # fmt: skip
    result = CliRunner().invoke(cli, [*student, "--out", str(tmp_path / "one")])
    assert result.exit_code == 0, result.output
    done = _launch(["-m", "medtex_edge", *student, "--out", str(tmp_path / "two"), "--json"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["method"] == "medtex"
    assert done.stderr.count("apart   1") == 1
    one, two = (list(csv.DictReader((tmp_path / name / "history.csv").open())) for name in ("one", "two"))
    assert [row["phase"] for row in one] == [row["phase"] for row in two]
    for a, b in zip(one, two, strict=True):
        # float32, and a mask whose level is a quantile, so that phase two repeats to three digits.
        bound = 5e-3 if a["phase"] == "joint" else 1e-4
        for name in ("out", "mid", "local", "budget", "val_loss"):
            assert float(a[name] or 0) == pytest.approx(float(b[name] or 0), rel=bound), (a["phase"], name)


def test_each_process_draws_its_own_rows_of_what_one_would_draw() -> None:
    augment, x = Augment(), torch.rand(12, 3, 16, 16)

    def drawn(index: int, count: int) -> tuple[torch.Tensor, ...]:
        with seeded_step(index, count, 1, 2, 3):
            return augment(x[index::count]), random_masks(12 // count, 8), draw_rows(12 // count, torch.rand)

    whole = drawn(0, 1)
    assert float((whole[0] - x).abs().max()) > 0.1
    for count in (2, 3, 12):
        for index in range(count):
            for part, all_rows in zip(drawn(index, count), whole, strict=True):
                torch.testing.assert_close(part, all_rows[index::count])


def test_a_steps_draws_do_not_depend_on_what_else_draws() -> None:
    with seeded_step(0, 1, 7):
        first = random_masks(4, 8)
    with seeded_step(1, 2, 7):
        torch.rand(5)  # as dropout does
        torch.testing.assert_close(random_masks(2, 8), first[1::2])
    with seeded_step(0, 1, 8):
        assert not torch.equal(random_masks(4, 8), first)


def test_the_last_part_of_a_batch_is_the_same_photographs_however_it_is_shared() -> None:
    for fraction in (0.0, 0.4, 0.55, 1.0):
        for count in (1, 2, 4):
            chosen: set[int] = set()
            for index in range(count):
                with seeded_step(index, count, 0):
                    size = 16 // count
                    taken = count_in_last(fraction, size)
                    chosen |= set(range(index, 16, count)[size - taken :])
            assert chosen == set(range(16 - round(fraction * 16), 16))


def test_slices_make_up_the_batch_and_are_of_one_size() -> None:
    def drawn(among: Group) -> list[torch.Tensor]:
        order = np.random.default_rng(1)
        return [b.images for b in batches(scale_worker.photos(27), 8, scale_worker.CPU, order=order, among=among)]

    whole, parts = drawn(Group()), [drawn(Group(index, 2)) for index in range(2)]
    assert [len(part) for part in parts[0]] == [len(part) for part in parts[1]] == [4, 4, 4, 1]
    for one, first, second in zip(whole, *parts, strict=True):
        joined = torch.stack([first, second], dim=1).flatten(0, 1)
        torch.testing.assert_close(joined, one[: len(joined)])


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "group", lambda: Group(0, 3))
    assert slice_size(12) == 4
    with pytest.raises(SettingsError, match="16 photographs per step cannot be shared evenly by 3"):
        slice_size(16)


def test_a_machine_without_a_compiler_trains_without_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from medtex_edge.train.models.compiling import compile_networks
    from medtex_edge.train.models.student import Classifier

    def missing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no working C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", missing)
    messages: list[str] = []
    classifier = Classifier("test_efficientnet", 2, weights="none")
    assert not compile_networks(classifier, None, torch.device("cpu"), messages.append)
    assert messages == ["  not compiled: RuntimeError: no working C++ compiler"]
    assert classifier(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.slow
def test_compiled_networks_answer_and_learn_as_before_and_their_copies_are_plain() -> None:
    from medtex_edge.train.models.compiling import compile_networks
    from medtex_edge.train.models.student import Classifier

    torch.manual_seed(0)
    plain = Classifier("test_efficientnet", 3, weights="none").train()
    compiled, messages = copy.deepcopy(plain), []
    if not compile_networks(compiled, None, torch.device("cpu"), messages.append):
        pytest.skip(f"no compiler here:{messages[0]}")
    x, gradients = torch.rand(4, 3, 64, 64), []
    for classifier in (plain, compiled):
        logits, features = classifier.with_features(x)
        (logits.square().sum() + features[0].mean()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in classifier.parameters() if p.grad is not None]))
    assert float((gradients[1] - gradients[0]).norm()) < 1e-4 * float(gradients[0].norm())
    # The averaged weights are a copy: one that ran the original's code would answer with the original's weights.
    double = copy.deepcopy(compiled).eval()
    torch.nn.init.zeros_(double.net.classifier.weight)
    assert float((double(x) - double.net.classifier.bias).detach().abs().max()) == 0


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_and_the_compiler_train_on_a_gpu(tmp_path: Path, precision: str) -> None:
    from medtex_edge.cli import cli

    photographs = write_photographs(tmp_path / "photographs", 40)
    small = ["--size", "64", "--precision", precision, "--batch", "16", "--data", str(photographs), "--compile"]
    arguments = [
        "train-teacher", "--model", "test_efficientnet", "--model-weights", "none", "--epochs", "3", *small,
        "--out", str(tmp_path / "teacher"),
    ]  # fmt: skip
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "not compiled" not in result.output
    rows = list(csv.DictReader((tmp_path / "teacher" / "history.csv").open()))
    assert all(np.isfinite(float(row["val_loss"])) for row in rows)


def test_batch_norm_over_processes_is_batch_norm_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.layers import BatchNormAct2d

    monkeypatch.setattr(processes.dist, "all_reduce", lambda tensor: None)
    torch.manual_seed(0)
    for make in (nn.BatchNorm2d, BatchNormAct2d, lambda c: nn.BatchNorm2d(c, affine=False)):
        plain, ours = make(5), make(5)
        processes.synchronise_batch_norm(ours, torch.device("cpu"))
        for _ in range(3):
            x = 40 + torch.randn(6, 5, 4, 4)
            a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
            y = plain(a)
            weights = torch.randn_like(y)
            (y * weights).sum().backward()
            z = ours(b)
            (z * weights).sum().backward()
            torch.testing.assert_close(z, y, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-3)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-4)
