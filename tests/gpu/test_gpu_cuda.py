from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpu_kernels import Kernels, Sum

from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend.tensorrt import cuda, cuda_graph

pytestmark = pytest.mark.gpu
KINDS = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "copied"])
REPLAYS = 10_000
HERE = Path(__file__).parent


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def free_bytes() -> int:
    import pycuda.driver

    return int(pycuda.driver.mem_get_info()[0])


def test_pycuda_is_built_and_names_the_device() -> None:
    device = cuda.device()
    assert device.name
    assert float(device.capability) >= 5
    assert float(device.driver) >= 11.4
    assert cuda.context().device == device


@KINDS
def test_what_the_processor_writes_the_gpu_reads_and_vice_versa(kernels: Kernels, mapped: bool) -> None:
    work = Sum(kernels, mapped=mapped)
    for seed in range(5):
        work.number.host[:] = np.random.default_rng(seed).random(1000, np.float32)
        work.answer.host.fill(np.nan)
        work.queue()
        work.stream.synchronize()
        np.testing.assert_array_equal(work.answer.host, work.number.host + 1)
    work.close()


@KINDS
def test_a_replayed_graph_answers_as_the_queued_calls_do(kernels: Kernels, mapped: bool) -> None:
    work = Sum(kernels, mapped=mapped)
    work.queue()
    work.stream.synchronize()
    graph = cuda_graph.capture(work.stream, work.queue)
    for seed in range(20):
        work.number.host[:] = np.random.default_rng(seed).random(1000, np.float32)
        work.queue()
        work.stream.synchronize()
        queued = work.answer.host.copy()
        work.answer.host.fill(np.nan)
        graph.launch()
        work.stream.synchronize()
        np.testing.assert_array_equal(work.answer.host, queued)
    graph.close()
    work.close()


def test_a_capture_that_is_refused_leaves_the_stream_usable(kernels: Kernels) -> None:
    work = Sum(kernels, mapped=False)
    with pytest.raises(BackendError):
        cuda_graph.capture(work.stream, work.stream.synchronize)  # waiting inside a capture is an error
    work.number.host.fill(2)
    work.queue()
    work.stream.synchronize()
    assert (work.answer.host == 3).all()
    cuda_graph.capture(work.stream, work.queue).close()
    work.close()


def test_the_clock_of_the_gpu_runs(kernels: Kernels) -> None:
    work, timer = Sum(kernels, mapped=False, count=1 << 20), cuda.Timer()
    timer.start(work.stream)
    work.queue()
    timer.stop(work.stream)
    assert timer.wait() > 0
    assert (work.answer.host == 1).all()
    timer.close()
    work.close()


def in_threads(count: int, body: Callable[[int], None], *, at_once: bool) -> None:
    wrong: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            body(index)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_context_is_handed_from_thread_to_thread(kernels: Kernels) -> None:
    work = Sum(kernels, mapped=False)
    work.queue()
    graph = cuda_graph.capture(work.stream, work.queue)

    def use(index: int) -> None:
        with cuda.context():
            work.number.host.fill(index)
            graph.launch()
            work.stream.synchronize()
            assert (work.answer.host == index + 1).all()

    in_threads(8, use, at_once=False)
    graph.close()
    work.close()


def test_threads_share_the_context_at_once(kernels: Kernels) -> None:
    def use(index: int) -> None:
        with cuda.context():
            work = Sum(kernels, mapped=index % 2 == 0)
            for step in range(200):
                work.number.host.fill(index + step)
                work.queue()
                work.stream.synchronize()
                assert (work.answer.host == index + step + 1).all()
            work.close()

    in_threads(4, use, at_once=True)


@KINDS
def test_ten_thousand_replays_take_no_memory(kernels: Kernels, mapped: bool) -> None:
    work, timer = Sum(kernels, mapped=mapped), cuda.Timer()
    work.queue()
    graph = cuda_graph.capture(work.stream, work.queue)

    def replay(count: int) -> None:
        for step in range(count):
            work.number.host.fill(step)
            timer.start(work.stream)
            graph.launch()
            timer.stop(work.stream)
            timer.wait()
            assert work.answer.host[-1] == step + 1

    replay(REPLAYS // 10)
    resident, free = resident_kb(), free_bytes()
    replay(REPLAYS)
    assert resident_kb() - resident < 2048
    assert free - free_bytes() < 8 << 20
    for part in (graph, timer, work):
        part.close()


def test_a_buffer_outlives_its_owner_and_goes_in_any_thread(kernels: Kernels) -> None:
    before = resident_kb()
    for _ in range(50):
        buffer = cuda.Buffer((1 << 20,), np.float32, mapped=True)
        views = [buffer.host[10:20]]
        buffer.close()
        del buffer
        views[0][:] = 1
        thread = threading.Thread(target=views.clear)
        thread.start()
        thread.join()
    assert resident_kb() - before < 32 << 10  # 50 of them would be 200 MB


def test_a_device_that_is_lost_is_reported_and_the_process_ends_by_itself() -> None:
    code = (
        "from gpu_kernels import Kernels\n"
        "from medtex_edge.errors import BackendError\n"
        "from medtex_edge.runtime.backend.tensorrt import cuda\n"
        "try:\n"
        "    with cuda.errors('inference failed'), cuda.context():\n"
        "        stream, kernels = cuda.Stream(), Kernels()\n"
        "        cuda.keep((stream, kernels))\n"
        "        kernels.astray(stream)\n"
        "        stream.synchronize()\n"
        "except BackendError as error:\n"
        "    print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=HERE)
    assert done.returncode == 0, done.stderr
    assert "lost to this process" in done.stdout
