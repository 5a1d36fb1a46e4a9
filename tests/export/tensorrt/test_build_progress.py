"""The log and the progress of a build, and how it is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tensorrt_rtx as rtx
from bundles import graph

from medtex_edge.errors import BundleError
from medtex_edge.export.tensorrt.builder import build
from medtex_edge.export.tensorrt.progress import Watch, plain_message

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning"),
]


def test_progress_rises_to_one_with_the_builders_own_names() -> None:
    reported: list[tuple[str, float]] = []
    build(rtx, graph(), capability="8.6", progress=lambda phase, fraction: reported.append((phase, fraction)))
    fractions = [fraction for _, fraction in reported]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len(set(fractions)) > 5
    assert "Building engine" in {phase for phase, _ in reported}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no room on the screen")])
def test_what_the_callback_raises_stops_the_build_and_comes_out(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def progress(phase: str, fraction: float) -> None:
        calls.append(phase)
        if len(calls) == 3:
            raise error

    with pytest.raises(type(error)) as caught:
        build(rtx, graph(), capability="8.6", progress=progress)
    assert caught.value is error
    assert len(calls) == 3
    assert capfd.readouterr() == ("", "")
    assert build(rtx, graph(), capability="8.6").plan


@pytest.fixture
def python_hears_ctrl_c() -> Iterator[None]:
    """As in the foreground; what a shell starts in the background is deaf to it, tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_hears_ctrl_c")
def test_ctrl_c_stops_the_build_wherever_it_falls(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    calls = []

    def progress(phase: str, fraction: float) -> None:
        calls.append(phase)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build(rtx, graph(), capability="8.6", progress=progress)
    assert len(calls) == 3
    watch = Watch()
    with watch.interruptible():
        signal.raise_signal(signal.SIGINT)  # outside of every callback
    assert not watch.stepped("any", 0)
    with pytest.raises(KeyboardInterrupt):
        watch.check()
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr() == ("", "")


def test_a_build_in_another_thread_leaves_the_handlers_alone() -> None:
    found: list[Any] = []

    def work() -> None:
        build(rtx, graph(), capability="8.6", progress=lambda *_: found.append(signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(found) == {before}


def test_a_phase_within_a_phase_moves_the_bar_by_its_share() -> None:
    reported: list[float] = []
    watch = Watch(lambda _, fraction: reported.append(fraction))
    watch.started("whole", None, 2)
    watch.started("part", "whole", 4)
    assert watch.stepped("part", 0)
    assert reported[-1] == 1 / 8
    for step in (1, 2, 3, 9):
        watch.stepped("part", step)
    watch.finished("part")
    watch.started("part", "whole", 2)  # the same phase once more, in the same step: the bar does not go back
    watch.stepped("part", 0)
    watch.finished("part")
    watch.stepped("whole", 1)
    watch.stepped("never started", 1)
    watch.finished("whole")
    assert reported == sorted(reported)
    assert reported[-1] == 1.0


def test_the_watch_may_be_called_by_many_threads() -> None:
    reported: list[float] = []
    watch = Watch(lambda _, fraction: reported.append(fraction))
    watch.started("whole", None, 4)

    def work(name: str) -> None:
        watch.started(name, "whole", 1000)
        for step in range(1000):
            watch.stepped(name, step)
            watch.log_line(2, "a warning")
        watch.finished(name)

    threads = [threading.Thread(target=work, args=(f"part {index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reported == sorted(reported)
    assert reported[-1] == pytest.approx(1 / 4, abs=1 / 500)
    watch.check()
    assert len(watch.warnings) == watch.warnings.maxlen


def test_nothing_of_a_build_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    build(rtx, graph(), capability="8.6")
    with pytest.raises(BundleError):
        build(rtx, b"no graph")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        ("IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic inputs, but no profile. "
         "In validate at /_src/optimizer/api/network.cpp:4023)", "Network has dynamic inputs, but no profile"),
        ("[optimizer.cpp::computeCosts::4120] Error Code 10: Internal Error (Could not find any implementation for "
         "node {ForeignNode[a...b]}.)", "Could not find any implementation for node {ForeignNode[a...b]}"),
        ('creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
         "Plugin not found, are the plugin name, version, and namespace correct?"),
        ("Assertion failed: (ctx->tensors().count(name)): Node input was not registered.",
         "Node input was not registered"),
        ("out of memory", "out of memory"),
        ("", ""),
    ],
)  # fmt: skip
def test_an_error_of_tensorrt_becomes_one_plain_line(message: str, plain: str) -> None:
    assert plain_message(message) == plain


def test_the_missing_driver_is_not_taken_for_the_reason_where_there_is_another() -> None:
    watch = Watch()
    watch.log_line(1, "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: too old)")
    assert "cudaError 35" in watch.errors[0]
    watch.log_line(0, "Error Code 2: Internal Error (the true one)")
    assert watch.reason() == "the true one"
