"""The TensorRT backend when something fails, in many threads, and at its end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable

import fake_cuda_graphs
import pytest
from backend_kit import BLACK, KINDS, assert_answers, images, opened
from fake_cuda import OUT_OF_MEMORY, Gpu
from kit_environment import kit_environment

from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend.tensorrt.runner import TensorRtBackend


@KINDS
def test_an_engine_that_writes_nothing_is_refused_and_not_shown_as_the_answer_before(
    monkeypatch: pytest.MonkeyPatch, integrated: bool
) -> None:
    gpu = Gpu(integrated=integrated).install(monkeypatch)
    with opened(gpu) as backend:
        assert_answers(backend, images(1))
        for thing in gpu.live.values():
            if isinstance(thing, fake_cuda_graphs.Executable):
                thing.work.clear()  # the launch succeeds, and does nothing
        with pytest.raises(BackendError, match="gave nan"):
            backend.infer(images(1))
    gpu.check()


def error_of(step: Callable[[Gpu], None], gpu: Gpu) -> tuple[str, str] | None:
    """The error's message and hint; the error itself, and all that its traceback holds, is let go of."""
    try:
        step(gpu)
    except BackendError as error:
        return error.message, error.hint
    return None


@KINDS
@pytest.mark.parametrize("failure", [OUT_OF_MEMORY, "an illegal memory access was encountered"])
def test_whichever_call_fails_it_is_reported_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, integrated: bool, failure: str
) -> None:
    def life(gpu: Gpu) -> None:
        with opened(gpu) as backend:
            for _ in range(2):
                assert_answers(backend, images(1))

    gpu = Gpu(integrated=integrated).install(monkeypatch)
    life(gpu)
    gpu.check()
    silent = []
    for index in range(len(gpu.calls)):
        failing = Gpu(integrated=integrated).install(monkeypatch)
        failing.fail_at, failing.fails_with = index, failure
        error = error_of(life, failing)
        if error is None:
            silent.append(index)
        else:
            assert failure in error[0]
            assert "\n" not in error[0]
            assert ("smaller --precision" if failure == OUT_OF_MEMORY else "lost to this process") in error[1]
        if failing.lost:  # what cannot be released is kept, and nothing else is done to it
            assert not failing.faults
            assert not failing.stack
        else:
            failing.check()
    closing = gpu.calls.index("cuStreamSynchronize") - 1
    if failure == OUT_OF_MEMORY:  # it goes on without a graph; and to make a context current takes no memory
        capture = range(gpu.calls.index("cuStreamBeginCapture_v2"), gpu.calls.index("cuGraphInstantiateWithFlags") + 1)
        assert [i for i in silent if i < closing and gpu.calls[i] != "push"] == list(capture)
    else:
        assert [i for i in silent if i < closing] == []


def test_an_error_leaves_the_backend_usable_if_the_gpu_is(gpu: Gpu) -> None:
    with opened(gpu) as backend:
        gpu.fail_at = len(gpu.calls) + 1
        with pytest.raises(BackendError, match="out of memory"):
            backend.infer(images(1))
        assert_answers(backend, images(2))
    gpu.check()


def test_any_thread_may_call_infer(gpu: Gpu) -> None:
    wrong: list[BaseException] = []

    def ask(seed: int) -> None:
        try:
            for _ in range(20):
                assert_answers(backend, images(seed))
        except BaseException as error:
            wrong.append(error)

    with opened(gpu) as backend:
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    gpu.check()


def test_it_may_be_opened_used_and_closed_by_three_threads(gpu: Gpu) -> None:
    backends: list[TensorRtBackend] = []
    for step in (
        lambda: backends.append(opened(gpu)),
        lambda: assert_answers(backends[0], images(1)),
        lambda: backends[0].close(),
    ):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    with pytest.raises(BackendError, match="closed"):
        backends[0].infer(BLACK)
    gpu.check()


def test_closing_waits_for_the_image_that_is_under_way(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(gpu)
    inside, go_on, answers = threading.Event(), threading.Event(), []
    wait = backend._engine._timer.wait  # type: ignore[union-attr]

    def slow() -> float:
        inside.set()
        go_on.wait(10)
        return wait()

    monkeypatch.setattr(backend._engine._timer, "wait", slow)
    inferring = threading.Thread(target=lambda: answers.append(backend.infer(BLACK).gpu_ms))
    inferring.start()
    assert inside.wait(10)
    closing = threading.Thread(target=backend.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    inferring.join(10)
    closing.join(10)
    assert answers == [0.5]
    gpu.check()


def test_it_may_be_closed_twice_or_forgotten(gpu: Gpu) -> None:
    backend = opened(gpu)
    backend.close()
    backend.close()
    opened(gpu)
    gc.collect()
    gpu.check()


def test_a_second_engine_shares_the_context_of_the_first(gpu: Gpu) -> None:
    with opened(gpu) as first, opened(gpu) as second:
        some = images(1)
        assert_answers(first, some)
        second.infer(BLACK)
        assert_answers(first, some)
    assert gpu.calls.count("cuDevicePrimaryCtxRetain") == 1
    gpu.check()


def test_a_process_that_ends_without_closing_ends_well() -> None:
    code = (
        "import atexit, pytest, backend_kit as t\n"
        "patch = pytest.MonkeyPatch()\n"
        "gpu = t.Gpu().install(patch)\n"
        "atexit.register(lambda: print(gpu.faults, sorted(map(str, gpu.live.values()))))\n"
        "backend = t.opened(gpu)\n"
        "buffer = backend.input_buffer\n"
        "backend.infer(t.BLACK)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=kit_environment(),
    )
    assert done.stderr == ""
    assert done.stdout.startswith("[] [")
    assert "Queue" not in done.stdout
    assert "device memory" not in done.stdout
