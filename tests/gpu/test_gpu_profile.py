from __future__ import annotations

from pathlib import Path

import bundles
import gpu_engines
import numpy as np
import pytest

from medtex_edge.bundle import Bundle
from medtex_edge.runtime.backend.onnxruntime import profile as onnxruntime_profile
from medtex_edge.runtime.backend.tensorrt import profile

pytestmark = pytest.mark.gpu


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(bundles.bundle(tmp_path / "tiny.medtex"))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)


def test_tensorrt_reports_every_layer_of_every_image_under_the_names_of_its_inspector(bundle: Bundle) -> None:
    if not gpu_engines.tensorrt_version():
        pytest.skip("a CUDA device, but no TensorRT")
    plan = gpu_engines.plan_of(bundles.graph(batch=1))
    clock, watched, runs = profile.watch(bundle, images(5), plan=plan)
    assert clock == "gpu"
    assert [set(run) for run in runs] == [{layer.name for layer in watched}] * 5
    assert all(sum(run.values()) > 0 for run in runs)
    assert {layer.kind for layer in watched} != {"unknown"}


def test_onnx_runtime_on_cuda_reports_the_clock_of_each_layer(bundle: Bundle) -> None:
    if not gpu_engines.cuda_provider():
        pytest.skip("a CUDA device, but no ONNX Runtime with its CUDA provider")
    clock, watched, runs = onnxruntime_profile.watch(bundle, images(5), provider=gpu_engines.CUDA)
    assert clock in ("gpu", "processor, launching only")
    assert len(runs) == 6  # the black one that opening sends too
    assert [set(run) for run in runs] == [{layer.name for layer in watched}] * 6
