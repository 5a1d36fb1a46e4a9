"""One backend serves until a better one is built and proved; then that one, from one frame to the next."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from handover_kit import IMAGE, answer, until

from medtex_edge.bundle import Bundle
from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend import Backend, onnxruntime
from medtex_edge.runtime.backend.handover import Handover

pytestmark = pytest.mark.usefixtures("own_device")


class Prepared:
    """A preparation that ends on command, with a backend or an error."""

    def __init__(self, result: Backend | Exception | None) -> None:
        self.result = result
        self.ready = threading.Event()
        self.stopped = False

    def run(self, on_progress: Callable[[str, float], None]) -> Backend | None:
        on_progress("choosing kernels", 0.25)
        self.ready.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return None if self.stopped else self.result

    def stop(self) -> None:
        self.stopped = True
        self.ready.set()


def two(bundle: Bundle) -> tuple[Backend, Backend]:
    return (onnxruntime.open(bundle, threads=1), onnxruntime.open(bundle, threads=1, precision="fp16"))


def closed(backend: Backend) -> bool:
    try:
        backend.infer(IMAGE)
    except BackendError as error:
        return "closed" in error.message
    return False


def test_it_moves_to_the_better_backend_between_two_frames(bundle: Bundle, messages: list[str]) -> None:
    first, better = two(bundle)
    before, after = answer(first), answer(better)
    assert not np.array_equal(before, after), "or nothing below is proved"
    preparation = Prepared(better)
    with Handover(first, preparation, messages.append) as backend:
        backend.begin()
        until(lambda: backend.progress == "25%: choosing kernels")
        for _ in range(3):
            assert np.array_equal(answer(backend), before)
        preparation.ready.set()
        until(lambda: backend.progress == "")
        assert backend.name == first.name, "until the next frame"
        assert np.array_equal(answer(backend), after)
        assert backend.name == better.name
        until(lambda: len(messages) == 2)
        assert closed(first)
        assert not closed(better)
    assert closed(better)
    assert messages[1] == f"3 images by {first.name}, then by {better.name}"
    assert backend.notes == messages[1:]


def test_every_frame_is_answered_by_one_of_the_two_whenever_the_better_one_comes(bundle: Bundle) -> None:
    for delay_s in (0.0, 0.002, 0.01):
        first, better = two(bundle)
        expected = [answer(first), answer(better)]
        preparation = Prepared(better)
        with Handover(first, preparation, lambda line: None) as backend:
            backend.begin()
            threading.Timer(delay_s, preparation.ready.set).start()
            sources = []
            while len(sources) < 20 or sources[-1] == 0:
                found = answer(backend)
                sources.append([np.array_equal(found, each) for each in expected].index(True))
                assert len(sources) < 10_000
        assert sources == sorted(sources)


@pytest.mark.parametrize(("error", "fragment"), [
    (BackendError("no memory", hint="free some"), "no memory (free some); the run goes on with onnxruntime"),
    (ZeroDivisionError("a fault of ours"), "ZeroDivisionError: a fault of ours; the run goes on with onnxruntime"),
])  # fmt: skip
def test_where_the_better_one_fails_the_first_serves_on_and_it_is_reported_once(
    bundle: Bundle, messages: list[str], error: Exception, fragment: str
) -> None:
    first, better = two(bundle)
    better.close()
    preparation = Prepared(error)
    with Handover(first, preparation, messages.append) as backend:
        before = answer(backend)
        backend.begin()
        preparation.ready.set()
        until(lambda: len(messages) == 2)
        assert fragment in messages[1]
        for _ in range(3):
            assert np.array_equal(answer(backend), before)
    assert len(messages) == 2
    assert backend.notes == messages[1:]


@pytest.mark.parametrize("when", ["never begun", "preparing", "prepared, no frame since", "switched"])
def test_closing_ends_the_thread_and_closes_both_at_any_time(bundle: Bundle, messages: list[str], when: str) -> None:
    first, better = two(bundle)
    preparation = Prepared(better)
    backend = Handover(first, preparation, messages.append)
    if when != "never begun":
        backend.begin()
    if when in ("prepared, no frame since", "switched"):
        preparation.ready.set()
        until(lambda: backend.progress == "")
    if when == "switched":
        answer(backend)
    backend.close()
    backend.close()
    assert closed(first)
    assert closed(better) or when in ("never begun", "preparing"), "it was never handed over"
    assert not [thread for thread in threading.enumerate() if thread.name == "medtex-edge-engine"]
    better.close()
