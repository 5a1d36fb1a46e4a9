"""Experiment trackers: TensorBoard for real, and what happens where a tracker is missing or fails."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medtex_edge.cli import main
from medtex_edge.errors import SettingsError
from medtex_edge.train.loop import reporter as reporter_module
from medtex_edge.train.loop import trackers
from medtex_edge.train.loop.reporter import Reporter, Row
from medtex_edge.train.loop.trackers import choose_trackers, open_tracker

ROWS: list[Row] = [
    {"phase": "apart", "epoch": 0, "step": 5, "seconds": 1.0, "out": 0.9, "val_loss": 0.8},
    {"phase": "apart", "epoch": 1, "step": 10, "seconds": 1.0, "out": 0.7, "val_loss": 0.6},
    {"phase": "joint", "epoch": 0, "step": 5, "seconds": 1.0, "tv": 0.1, "val_loss": 0.5},
]


def _only(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        if name in trackers.TRACKERS:
            return object() if name in installed else None
        return found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def _reporter(folder: Path, *log: str) -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(Console(file=stream, width=200), folder, log), stream


class FakeTracker:
    """Records what it receives; `fails_at` is the call of `log` that raises."""

    def __init__(self, fails_at: int = -1) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = False
        self.fails_at = fails_at

    def log(self, values: dict[str, float], step: int) -> None:
        if len(self.logged) == self.fails_at:
            raise ConnectionError("the server is gone")
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished = True


def test_tensorboard_receives_every_epochs_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reporter, _ = _reporter(tmp_path, "tensorboard")
    with reporter:
        for row in ROWS:
            reporter.epoch(row)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"apart/out", "apart/val_loss", "joint/tv", "joint/val_loss"}
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("apart/out")] == [(5, 0.9), (10, 0.7)]
    assert [e.step for e in events.Scalars("joint/val_loss")] == [15]


def test_without_the_option_tensorboard_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, "tensorboard", "mlflow")
    assert choose_trackers(()) == ("tensorboard",)
    assert choose_trackers(("mlflow", "mlflow")) == ("mlflow",)
    _only(monkeypatch)
    assert choose_trackers(()) == ()


def test_a_tracker_that_is_not_installed_is_refused_before_training_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _only(monkeypatch)
    with pytest.raises(SettingsError, match="mlflow is not installed") as refused:
        _reporter(tmp_path, "mlflow")
    assert refused.value.hint == "pip install mlflow"
    for command in ("train", "train-teacher"):
        out = tmp_path / command
        assert main([command, "--data", str(tmp_path), "--log", "wandb", "--out", str(out)]) == SettingsError.exit_code
        assert "pip install wandb" in capsys.readouterr().err
        assert not out.exists()


def test_a_tracker_that_is_unknown_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match="tensorboard, mlflow, wandb"):
        choose_trackers(("neptune",))


def test_a_tracker_that_cannot_start_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable(FakeTracker):
        def start(self) -> None:
            raise ConnectionError("no login")

    monkeypatch.setattr(trackers, "_create", lambda name, folder: Unreachable())
    with pytest.raises(SettingsError, match="--log wandb: it cannot start: no login"):
        open_tracker("wandb", tmp_path)


def test_a_tracker_that_fails_later_is_dropped_with_a_warning_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, *trackers.TRACKERS)
    fakes = {"mlflow": FakeTracker(fails_at=1), "wandb": FakeTracker()}
    monkeypatch.setattr(reporter_module, "open_tracker", lambda name, folder: fakes[name])
    reporter, stream = _reporter(tmp_path, "mlflow", "wandb")
    with reporter:
        for row in ROWS:
            reporter.epoch(row)
    assert stream.getvalue().count("warning: --log mlflow stopped: the server is gone") == 1
    assert (len(fakes["mlflow"].logged), fakes["mlflow"].finished) == (1, False)
    assert (len(fakes["wandb"].logged), fakes["wandb"].finished) == (3, True)


def test_steps_rise_over_phases_and_a_resumed_run_goes_on_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, "wandb")
    fake = FakeTracker()
    monkeypatch.setattr(reporter_module, "open_tracker", lambda name, folder: fake)
    reporter, _ = _reporter(tmp_path, "wandb")
    with reporter:
        reporter.resumed(ROWS[:2])
        reporter.epoch(ROWS[2])
    assert fake.logged == [({"joint/tv": 0.1, "joint/val_loss": 0.5}, 15)]


def test_a_process_other_than_the_first_logs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "open_tracker", lambda name, folder: pytest.fail("it was opened"))
    with Reporter(Console(quiet=True), tmp_path, ["tensorboard"]) as reporter:
        reporter.epoch(ROWS[0])
