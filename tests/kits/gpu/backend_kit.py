"""Opens the TensorRT backend on a fake GPU, and compares its answers with the right ones."""

from __future__ import annotations

from typing import Any

import bundles
import fake_tensorrt
import numpy as np
import pytest
from fake_cuda import Gpu

from medtex_edge.runtime.backend.tensorrt import runner
from medtex_edge.runtime.backend.tensorrt.runner import TensorRtBackend

CONTRACT = bundles.contract()
BLACK = np.zeros((1, 64, 64, 3), np.uint8)
KINDS = pytest.mark.parametrize("integrated", [True, False], ids=["integrated", "discrete"])


def opened(gpu: Gpu, plan: bytes | None = None, **options: Any) -> TensorRtBackend:
    trt = fake_tensorrt.module(gpu)
    return runner.open_engine(plan or fake_tensorrt.plan(), CONTRACT, label="fp16", trt=trt, **options)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), np.uint8)


def assert_answers(backend: TensorRtBackend, some: np.ndarray) -> None:
    right = [fake_tensorrt.answer(image) for image in some]  # before: `some` may be a view of the input buffer
    outputs = backend.infer(some)
    for index, (probabilities, saliency) in enumerate(right):
        np.testing.assert_array_equal(outputs.probabilities[index], probabilities)
        np.testing.assert_array_equal(outputs.saliency[index], saliency)
