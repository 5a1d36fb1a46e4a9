from __future__ import annotations

import ctypes
import functools
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import Gpu
from kit_environment import kit_environment

from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend.tensorrt import cuda, cuda_graph

ROOT = Path(__file__).parents[3]
NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu().install(monkeypatch)


def test_the_device_is_named_with_all_that_an_engine_depends_on(gpu: Gpu) -> None:
    assert cuda.device() == cuda.CudaDevice("Orin", "8.7", "12.6", integrated=False)
    assert "cuDevicePrimaryCtxRetain" not in gpu.calls  # asking costs no context


def test_no_pycuda_and_no_driver_are_two_things_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: real("libnothing.so") if name == cuda.LIBRARY else real(name))
    with pytest.raises(BackendError, match="pycuda is missing or broken") as caught:
        cuda.device()
    assert "no NVIDIA driver" in caught.value.hint
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None if name == cuda.LIBRARY else real(name))
    with pytest.raises(BackendError) as caught:
        cuda.context()
    assert "medtex-edge[tensorrt]" in caught.value.hint
    assert "onnxruntime" in caught.value.hint


def test_a_machine_without_a_gpu_raises_at_each_call(gpu: Gpu) -> None:
    gpu.fail_at, gpu.fails_with = 0, "no CUDA-capable device is detected"
    for ask in (cuda.device, cuda.context):
        with pytest.raises(BackendError, match="no CUDA-capable device") as caught:
            ask()
        assert "CUDA_VISIBLE_DEVICES" in caught.value.hint
    gpu.lost = False
    assert cuda.context().device.name == "Orin"  # a refusal is not remembered


def test_the_context_is_retained_once_by_however_many_threads(gpu: Gpu) -> None:
    contexts = []
    threads = [threading.Thread(target=lambda: contexts.append(cuda.context())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, contexts))) == 1
    assert gpu.calls.count("cuDevicePrimaryCtxRetain") == 1


def test_the_context_is_current_inside_and_what_was_before_afterwards(gpu: Gpu) -> None:
    depths = []

    def check_depths() -> None:
        with cuda.context():
            depths.append(len(gpu.stack))
            with cuda.context():
                depths.append(len(gpu.stack))
            depths.append(len(gpu.stack))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        check_depths()
    assert depths == [1, 2, 1]
    gpu.check()


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("cuMemAlloc failed: out of memory", "smaller --precision"),
        ("Error Code 2: OutOfMemory (Requested size was 4096 bytes)", "smaller --precision"),
        ("cuEventSynchronize failed: an illegal memory access was encountered", "start it again"),
        ("cuStreamSynchronize failed: unspecified launch failure", "start it again"),
        ("cuInit failed: CUDA driver version is insufficient for CUDA runtime version", "newer NVIDIA driver"),
        ("cuInit failed: something else", "doctor"),
    ],
)
def test_a_message_of_the_driver_becomes_a_hint(message: str, hint: str) -> None:
    error = cuda.failure(message, "inference failed")
    assert error.message == f"inference failed: {message}"
    assert hint in error.hint


@pytest.mark.parametrize("mapped", [True, False])
def test_what_is_uploaded_comes_back(gpu: Gpu, mapped: bool) -> None:
    with cuda.context():
        stream, buffer = cuda.Stream(), cuda.Buffer((2, 3), np.float32, mapped=mapped)
        assert not buffer.host.any()
        buffer.host[:] = [[1, 2, 3], [4, 5, 6]]
        buffer.upload(stream)
        if not mapped:
            stream.synchronize()
            buffer.host[:] = 0
        buffer.download(stream)
        stream.synchronize()
        np.testing.assert_array_equal(buffer.host, [[1, 2, 3], [4, 5, 6]])
        buffer.close()
        buffer.close()
        stream.close()
    del buffer
    gpu.check()


def test_a_graph_repeats_what_was_queued_on_what_lies_there_now(gpu: Gpu) -> None:
    with cuda.context():
        stream, buffer = cuda.Stream(), cuda.Buffer((4,), np.uint8, mapped=False)
        graph = cuda_graph.capture(stream, functools.partial(buffer.upload, stream))
        for value in (7, 9):
            buffer.host[:] = value
            graph.launch()
            stream.synchronize()
            assert gpu.memory[buffer.pointer].tolist() == [value] * 4
        graph.close()
        graph.close()
        with pytest.raises(BackendError, match="cuGraphLaunch failed with 400: invalid resource handle"):
            graph.launch()
        buffer.close()
        stream.close()
    del buffer
    gpu.check()


def test_a_capture_that_goes_wrong_leaves_the_stream_as_it_was(gpu: Gpu) -> None:
    with cuda.context():
        stream = cuda.Stream()
        for wrong in (ZeroDivisionError, KeyboardInterrupt):

            def work(error: type[BaseException] = wrong) -> None:
                raise error

            with pytest.raises(wrong):
                cuda_graph.capture(stream, work)
        with pytest.raises(BackendError, match="cuStreamEndCapture failed with 901"):
            cuda_graph.capture(stream, stream.synchronize)  # which cannot be captured
        cuda_graph.capture(stream, lambda: None).close()
        stream.close()
    gpu.check()


def test_a_buffer_is_given_back_by_whichever_thread_holds_its_last_view(gpu: Gpu) -> None:
    with cuda.context():
        views = [cuda.Buffer((8,), np.uint8, mapped=True).host[2:4]]
    assert gpu.memory
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    gpu.check()


def test_each_gpu_test_is_collected_and_skips_for_want_of_a_gpu_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/gpu", "-rs", "-p", "no:cacheprovider"],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env=kit_environment(NO_GPU),
    )  # fmt: skip
    skipped = re.findall(r"^SKIPPED \[(\d+)\] .*?: (.*)$", done.stdout, re.MULTILINE)
    counts = re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", done.stdout.splitlines()[-1])
    assert [kind for _, kind in counts] == ["skipped"], done.stdout
    assert int(counts[0][0]) >= 10
    assert {reason.split(":")[0] for _, reason in skipped} == {"no CUDA device"}
