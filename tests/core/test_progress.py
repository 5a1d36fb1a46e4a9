"""The progress display: bars on a terminal, plain lines elsewhere, nothing on a quiet console."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from medtex_edge.progress import ProgressDisplay, counting


def _console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=120, force_terminal=terminal), stream


def test_a_finished_step_leaves_a_line_with_its_note_and_duration() -> None:
    console, stream = _console()
    with ProgressDisplay(console) as display, display.step("reading [many] photographs", 2) as task:
        task.tick()
        task.note = "12 ms each"
    assert stream.getvalue() == "✓ reading [many] photographs  12 ms each  0.0 s\n"


def test_a_step_that_fails_leaves_no_line() -> None:
    console, stream = _console()
    with pytest.raises(ZeroDivisionError), ProgressDisplay(console) as display, display.step("dividing"):
        raise ZeroDivisionError
    assert stream.getvalue() == ""


def test_a_terminal_shows_the_bar_with_its_count_and_its_detail() -> None:
    console, stream = _console(terminal=True)
    with ProgressDisplay(console) as display:
        bar = display.add("phase", 12)
        bar.update(3, name="phase epoch 1/4", detail="loss [0.5]")
        display._bars.refresh()
        bar.remove()
    assert "phase epoch 1/4" in stream.getvalue()
    assert "3/12" in stream.getvalue()
    assert "loss [0.5]" in stream.getvalue()


def test_a_fraction_is_shown_in_percent_and_an_unknown_total_without_a_count() -> None:
    console, stream = _console(terminal=True)
    with ProgressDisplay(console) as display, display.task("building", 1.0) as task:
        task.update(0.25)
        display._bars.refresh()
    assert "25 %" in stream.getvalue()
    console, stream = _console(terminal=True)
    with ProgressDisplay(console) as display, display.task("waiting"):
        display._bars.refresh()
    assert "waiting" in stream.getvalue()
    assert "0/" not in stream.getvalue()


@pytest.mark.parametrize("console", [None, Console(quiet=True)])
def test_without_a_console_or_on_a_quiet_one_nothing_is_shown(
    console: Console | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressDisplay(console) as display, display.step("reading", 3) as task:
        task.tick()
        display.message("a line")
    assert not display.draws_bars
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_counting_reports_to_a_callback_to_a_display_or_to_nobody() -> None:
    reports: list[tuple[int, int]] = []
    with counting(lambda done, total: reports.append((done, total)), "cropping", 2) as advance:
        advance()
        advance()
    assert reports == [(1, 2), (2, 2)]
    console, stream = _console()
    for progress in (ProgressDisplay(console), None):
        with counting(progress, "cropping", 1) as advance:
            advance()
    assert stream.getvalue() == ""
