"""The answers of the TensorRT backend, the engines that it accepts, and what its modules need."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bundles
import fake_tensorrt
import numpy as np
import pytest
from backend_kit import BLACK, CONTRACT, KINDS, assert_answers, images, opened
from fake_cuda import Gpu

from medtex_edge.bundle import Bundle
from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend.tensorrt import engine, runner
from medtex_edge.runtime.frame import Frame
from medtex_edge.runtime.scorer import Scorer


@KINDS
@pytest.mark.parametrize("graph", [True, False], ids=["captured", "queued"])
def test_each_image_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch, integrated: bool, graph: bool) -> None:
    gpu = Gpu(integrated=integrated).install(monkeypatch)
    with opened(gpu, graph=graph) as backend:
        assert backend.name == "tensorrt:fp16"
        for some in (images(1), images(3), BLACK, images(1)[:, ::-1], images(1)[..., ::-1]):
            assert_answers(backend, some)
    gpu.check()


@KINDS
def test_what_was_given_to_the_caller_stays_as_it_was(monkeypatch: pytest.MonkeyPatch, integrated: bool) -> None:
    gpu = Gpu(integrated=integrated).install(monkeypatch)
    with opened(gpu) as backend:
        first = backend.infer(images(1))
        kept = first.probabilities.copy(), first.saliency.copy()
        backend.infer(BLACK)
    np.testing.assert_array_equal(first.probabilities, kept[0])
    np.testing.assert_array_equal(first.saliency, kept[1])


def test_one_launch_serves_one_image(gpu: Gpu) -> None:
    with opened(gpu) as backend:
        assert backend.not_captured == ""
        before, calls = gpu.launches, len(gpu.calls)
        backend.infer(images(1))
        assert gpu.launches == before + 1
        made = gpu.calls[calls:]
        assert made.count("cuGraphLaunch") == 1
        assert not {"execute_async_v3", "cuMemHostAlloc", "cuMemAlloc", "cuMemcpyHtoDAsync"} & set(made)


def test_the_gpu_reports_its_time(gpu: Gpu) -> None:
    with opened(gpu) as backend:
        assert backend.infer(images(1)).gpu_ms == 0.5
        assert backend.infer(images(3)).gpu_ms == 1.5


@pytest.mark.parametrize("gpu", [False], indirect=True)
def test_a_discrete_gpu_is_copied_to_and_an_integrated_one_is_not(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(gpu, graph=False).close()
    assert gpu.calls.count("cuMemcpyHtoDAsync") == runner._WARM_UP
    assert gpu.calls.count("cuMemcpyDtoHAsync") == 2 * runner._WARM_UP
    jetson = Gpu(integrated=True).install(monkeypatch)
    opened(jetson, graph=False).close()
    assert not {"cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemAlloc"} & set(jetson.calls)


def test_an_image_may_be_written_straight_into_the_input_buffer(gpu: Gpu) -> None:
    some = images(2)
    with opened(gpu) as backend:
        buffer = backend.input_buffer
        assert buffer is not None
        assert (buffer.shape, buffer.dtype) == ((1, 64, 64, 3), np.uint8)
        for index in range(2):
            buffer[0] = some[index]
            assert_answers(backend, buffer)
        assert_answers(backend, buffer[:, ::-1])  # the same memory in another order is another image


def test_frames_are_prepared_in_the_input_buffer_and_read_the_same(gpu: Gpu) -> None:
    frames = [Frame(bundles.disc(lesion=seed > 1, seed=seed)) for seed in range(4)]
    with opened(gpu) as backend:
        into = [Scorer(backend, CONTRACT).score(frame) for frame in frames]
        assert backend.input_buffer is not None
        assert backend.input_buffer.any()
        plain = SimpleNamespace(infer=backend.infer)  # without a buffer of its own
        separate = [Scorer(plain, CONTRACT).score(frame) for frame in frames]
    for one, other in zip(into, separate, strict=True):
        assert one.probabilities is not None
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_array_equal(one.saliency, other.saliency)
        assert one.quality == other.quality


def test_an_input_buffer_that_somebody_still_holds_can_be_written_to_after_the_end(gpu: Gpu) -> None:
    backend = opened(gpu)
    row = backend.input_buffer[0, 3]  # type: ignore[index]
    backend.close()
    assert backend.input_buffer is None
    row[:] = 7
    gc.collect()
    assert [kind for kind in gpu.live.values() if kind == "host memory"]
    del row
    gpu.check()


def test_it_goes_on_queueing_call_by_call_where_a_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old_driver = Gpu(graphs=False).install(monkeypatch)
    with opened(old_driver) as backend:
        assert "CUDA graphs" in backend.not_captured
        assert_answers(backend, images(2))
    old_driver.check()
    gpu = Gpu().install(monkeypatch)
    with opened(gpu, fake_tensorrt.plan(capturable=False)) as backend:
        assert "stream is capturing" in backend.not_captured
        assert_answers(backend, images(2))
        assert gpu.launches == 0
    gpu.check()


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"tensors": {"saliency": None}}, "image, probabilities, saliency, got image, probabilities"),
        ({"tensors": {"more": ["OUTPUT", "FLOAT", [1]]}}, "got image, probabilities, saliency, more"),
        ({"tensors": {"image": ["INPUT", "FLOAT", [1, 64, 64, 3]]}}, "image: expected INPUT UINT8"),
        ({"tensors": {"image": ["INPUT", "UINT8", [1, 3, 64, 64]]}}, "image: expected INPUT UINT8"),
        ({"tensors": {"image": ["INPUT", "UINT8", [8, 64, 64, 3]]}}, "image: expected INPUT UINT8"),
        ({"tensors": {"image": ["INPUT", "UINT8", [1, 64, 64, 3], "HOST"]}}, "image: expected INPUT UINT8"),
        ({"tensors": {"probabilities": ["OUTPUT", "HALF", [1, 3]]}}, "probabilities: expected OUTPUT FLOAT"),
        ({"tensors": {"probabilities": ["OUTPUT", "FLOAT", [1, 5]]}}, "probabilities: expected OUTPUT FLOAT"),
        ({"tensors": {"saliency": ["INPUT", "FLOAT", [1, 16, 16]]}}, "saliency: expected OUTPUT FLOAT"),
        ({"tensors": {"saliency": ["OUTPUT", "FLOAT", [-1, 16, 16]]}, "batch": 2}, "expected .1, 3., got .2, 3."),
    ],
)
def test_an_engine_that_is_not_of_the_contract_is_never_run(gpu: Gpu, changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(BackendError, match=fragment) as caught:
        opened(gpu, fake_tensorrt.plan(**changes))
    assert "engine build" in caught.value.hint
    assert "execute_async_v3" not in gpu.calls
    gpu.check()


def test_an_engine_with_an_open_batch_is_run_for_one_image_at_a_time(gpu: Gpu) -> None:
    tensors = {name: [mode, kind, [-1, *shape[1:]]] for name, (mode, kind, shape) in fake_tensorrt.TENSORS.items()}
    with opened(gpu, fake_tensorrt.plan(tensors=tensors)) as backend:
        assert_answers(backend, images(2))
    gpu.check()


def test_bytes_that_are_no_engine_are_an_error_with_tensorrts_own_message(gpu: Gpu) -> None:
    with pytest.raises(BackendError, match=r"cannot be read: .*magic tag does not match") as caught:
        opened(gpu, b"\x00not an engine")
    assert "engine build" in caught.value.hint
    assert "this is not why" not in caught.value.message
    gpu.check()


def test_versions_and_missing_modules_are_reported(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    have: dict[str, Any] = {}

    def load(name: str) -> Any:
        if isinstance(have[name], Exception):
            raise have[name]
        return have[name]

    monkeypatch.setattr(runner, "find_spec", lambda name: have.get(name))
    monkeypatch.setattr(runner, "import_module", load)
    with pytest.raises(BackendError, match="not installed") as caught:
        runner.module()
    assert "python3-libnvinfer" in caught.value.hint
    have["tensorrt_rtx"] = fake_tensorrt.module(gpu, "tensorrt_rtx", "1.7.1.116")
    assert runner.module().__name__ == "tensorrt_rtx"
    have["tensorrt"] = ImportError("libnvinfer.so.10: cannot open shared object file")
    assert runner.module().__name__ == "tensorrt_rtx"
    del have["tensorrt_rtx"]
    with pytest.raises(BackendError, match="libnvinfer"):
        runner.module()
    for version in ("10.3.0", "10.16.2.1", "11.4.0"):
        have["tensorrt"] = fake_tensorrt.module(gpu, "tensorrt", version)
        assert runner.module().__version__ == version
    for version in ("8.6.2", "10.2.0.post1"):
        have["tensorrt"] = fake_tensorrt.module(gpu, "tensorrt", version)
        with pytest.raises(BackendError, match=f"expected 10.3 or newer, got {version}") as caught:
            runner.module()
        assert "JetPack 6.1" in caught.value.hint


def test_the_names_that_are_used_are_those_of_a_real_tensorrt(gpu: Gpu) -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    real = {"Engine": "ICudaEngine", "Execution": "IExecutionContext", "Runtime": "Runtime"}
    used = {(real[name], method) for name in real for method in vars(getattr(fake_tensorrt, name)) if method[0] != "_"}
    assert len(used) > 10
    assert [f"{name}.{method}" for name, method in used if not hasattr(getattr(rtx, name), method)] == []
    assert hasattr(rtx.ICudaEngine, "num_io_tensors")
    for name in ("DataType", "TensorIOMode", "TensorLocation"):
        kind = getattr(fake_tensorrt, name)
        assert {member.name for member in kind} <= set(getattr(rtx, name).__members__)
    log = engine._logger(rtx)
    log.log(rtx.ILogger.WARNING, "a warning")
    log.log(rtx.ILogger.ERROR, "an error\n")
    assert list(log.lines) == ["an error"]


def test_the_engine_of_a_bundle_is_the_one_that_was_given(gpu: Gpu, tmp_path: Path) -> None:
    bundle = Bundle.open(bundles.bundle(tmp_path / "tiny.medtex"))
    monkey = fake_tensorrt.module(gpu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "module", lambda: monkey)
        with runner.open(bundle, plan=fake_tensorrt.plan()) as backend:
            assert backend.name == "tensorrt:fp32"
            assert_answers(backend, images(1))
    gpu.check()


def test_what_make_gpu_check_writes_is_a_table_of_each_precision(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_engines
    import measure

    trt = fake_tensorrt.module(gpu)
    monkeypatch.setattr(runner, "module", lambda: trt)
    monkeypatch.setattr(gpu_engines, "plan_of", lambda model: fake_tensorrt.plan(capturable=model == b"fp32"))
    lines = list(measure.section(CONTRACT, {"fp32": b"fp32", "fp16": b"fp16"}, 5))
    assert "Orin, compute capability 8.7, CUDA 12.6, memory shared" in lines[2]
    assert "tensorrt 10.3.0" in lines[2]
    assert lines[-2].startswith("| fp32 | 0.500 (0.500) | 0.500 (0.500) | 0% |")
    assert lines[-1].startswith("| fp16 | 0.500 (0.500) | 0.500 (0.500) | not captured |")
    gpu.check()


def test_importing_the_backend_imports_neither_pycuda_nor_tensorrt() -> None:
    code = (
        "import sys, medtex_edge.runtime.backend.tensorrt.runner, medtex_edge.runtime.backend.tensorrt.cuda_graph\n"
        "print({'pycuda', 'tensorrt', 'tensorrt_rtx', 'torch', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
