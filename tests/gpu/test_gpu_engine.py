from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import bundles
import gpu_engines
import numpy as np
import pytest
from kit_environment import kit_environment
from rich.console import Console

from medtex_edge.errors import BackendError
from medtex_edge.export import parity
from medtex_edge.export.gate import ProofCase, prove_engine, prove_fp32
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import Backend, Outputs, onnxruntime
from medtex_edge.runtime.backend.tensorrt import cuda, runner

pytestmark = pytest.mark.gpu
CONTRACT = bundles.contract()
MODEL = bundles.graph(batch=1)
FRAMES = 10_000
TOLERANCE = 2e-3  # TF32 in matrices keeps ten bits


@pytest.fixture
def backend() -> Iterator[Backend]:
    """TensorRT, or ONNX Runtime on CUDA."""
    if not gpu_engines.tensorrt_version() and not gpu_engines.cuda_provider():
        pytest.skip("a CUDA device, but neither TensorRT nor ONNX Runtime's CUDA provider")
    with gpu_engines.open_here(MODEL, CONTRACT) as opened:
        yield opened


@pytest.fixture
def plan() -> bytes:
    if not gpu_engines.tensorrt_version():
        pytest.skip("a CUDA device, but no TensorRT")
    return gpu_engines.plan_of(MODEL)


def images(count: int) -> np.ndarray:
    discs = [bundles.disc(64, lesion=seed % 2 > 0, seed=seed, level=80 + 10 * seed) for seed in range(count)]
    return np.stack(discs)[..., ::-1]


def assert_same(actual: Outputs, right: Outputs, tolerance: float) -> None:
    np.testing.assert_allclose(actual.probabilities, right.probabilities, rtol=0, atol=tolerance)
    np.testing.assert_allclose(actual.saliency, right.saliency, rtol=0, atol=tolerance)


def test_the_gpu_answers_as_the_processor_does(backend: Backend) -> None:
    with onnxruntime.open_graph(MODEL, CONTRACT, threads=1) as processor:
        for image in images(8):
            assert_same(backend.infer(image[None]), processor.infer(image[None]), TOLERANCE)


def test_any_thread_may_ask(backend: Backend) -> None:
    requests = images(6)
    alone = [backend.infer(image[None]) for image in requests]
    together: list[Outputs | None] = [None] * len(requests)
    threads = [
        threading.Thread(target=lambda i=i: together.__setitem__(i, backend.infer(requests[i][None])))
        for i in range(len(requests))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for actual, right in zip(together, alone, strict=True):
        assert actual is not None
        assert_same(actual, right, 0)


def test_ten_thousand_frames_take_no_memory(backend: Backend) -> None:
    import pycuda.driver

    some = images(4)
    right = [backend.infer(image[None]) for image in some]

    def used() -> tuple[int, int]:
        with cuda.context():
            free = int(pycuda.driver.mem_get_info()[0])
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4, -free

    for _ in range(FRAMES // 10):
        backend.infer(some[:1])
    before = used()
    for index in range(FRAMES):
        assert_same(backend.infer(some[index % 4][None]), right[index % 4], 0)
    after = used()
    assert after[0] - before[0] < 2048
    assert after[1] - before[1] < 8 << 20


def test_a_captured_engine_answers_as_the_queued_one(plan: bytes) -> None:
    with runner.open_engine(plan, CONTRACT) as captured, runner.open_engine(plan, CONTRACT, graph=False) as queued:
        assert captured.not_captured == ""
        for image in images(20):
            actual = captured.infer(image[None])
            assert_same(actual, queued.infer(image[None]), 0)
            assert actual.gpu_ms is not None
            assert actual.gpu_ms > 0


def test_the_input_buffer_needs_no_copy_and_outlives_the_engine(plan: bytes) -> None:
    image = images(2)[1]
    with runner.open_engine(plan, CONTRACT) as opened:
        buffer = opened.input_buffer
        assert buffer is not None
        right = opened.infer(image[None])
        opened.infer(np.zeros_like(image[None]))
        buffer[0] = image
        assert_same(opened.infer(buffer), right, 0)
    buffer[:] = 0


def test_an_engine_of_another_contract_is_refused(plan: bytes) -> None:
    with pytest.raises(BackendError, match="by the contract"):
        runner.open_engine(plan, bundles.contract(classes=("a", "b")))
    with pytest.raises(BackendError, match="cannot be read"):
        runner.open_engine(plan[: len(plan) // 2], CONTRACT)


def test_the_gate_of_an_export_asks_the_engine_too(plan: bytes) -> None:
    photographs, graph = images(8), bundles.graph()
    with onnxruntime.open_graph(graph, CONTRACT, threads=1) as processor:
        expected = parity.of_backend(processor, photographs)
    case = ProofCase(CONTRACT, photographs, tuple("abcdefgh"), expected, 8, photographs[:0])
    with ProgressDisplay(Console(quiet=True)) as steps:
        proof = prove_engine("fp32", prove_fp32(graph, case, steps), case, steps)
    assert proof.parities["tensorrt"].photographs == 8
    assert proof.parities["tensorrt"].probability < 1e-3


def test_opening_and_closing_takes_no_memory(plan: bytes) -> None:
    import pycuda.driver

    def free() -> int:
        runner.open_engine(plan, CONTRACT).close()
        with cuda.context():
            return int(pycuda.driver.mem_get_info()[0])

    for _ in range(3):
        before = free()
    assert before - [free() for _ in range(20)][-1] < 16 << 20


def test_a_process_that_forgets_to_close_ends_well(plan: bytes, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(plan)
    code = (
        f"import bundles, pathlib, threading\n"
        f"from medtex_edge.runtime.backend import tensorrt\n"
        f"plan, kept = pathlib.Path({str(tmp_path / 'plan')!r}).read_bytes(), []\n"
        f"open = lambda: kept.append(tensorrt.open_engine(plan, bundles.contract()))\n"
        f"open()\n"
        f"thread = threading.Thread(target=open); thread.start(); thread.join()\n"
        f"kept += [one.input_buffer for one in kept]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=kit_environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
