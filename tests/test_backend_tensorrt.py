from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import bundles
import fake_tensorrt
import numpy as np
import pytest
from fake_cuda import Gpu

from medtex_edge.errors import BackendError
from medtex_edge.runtime.backend import tensorrt
from medtex_edge.runtime.backend.tensorrt import TensorRtBackend

CONTRACT = bundles.contract()
BLACK = np.zeros((1, 64, 64, 3), np.uint8)
KINDS = pytest.mark.parametrize("integrated", [True, False], ids=["integrated", "discrete"])


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(integrated=getattr(request, "param", True)).install(monkeypatch)


def opened(gpu: Gpu, plan: bytes | None = None, **options: Any) -> TensorRtBackend:
    trt = fake_tensorrt.module(gpu)
    return tensorrt.open_engine(plan or fake_tensorrt.plan(), CONTRACT, label="fp16", trt=trt, **options)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), np.uint8)


def assert_answers(backend: TensorRtBackend, some: np.ndarray) -> None:
    outputs = backend.infer(some)
    for index, image in enumerate(some):
        probabilities, saliency = fake_tensorrt.answer(image)
        np.testing.assert_array_equal(outputs.probabilities[index], probabilities)
        np.testing.assert_array_equal(outputs.saliency[index], saliency)


@KINDS
@pytest.mark.parametrize("graph", [True, False], ids=["captured", "queued"])
def test_each_image_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch, integrated: bool, graph: bool) -> None:
    gpu = Gpu(integrated=integrated).install(monkeypatch)
    with opened(gpu, graph=graph) as backend:
        assert backend.name == "tensorrt:fp16"
        for some in (images(1), images(3), BLACK, images(1)[:, ::-1], images(1)[..., ::-1]):
            assert_answers(backend, some)
    gpu.check()
