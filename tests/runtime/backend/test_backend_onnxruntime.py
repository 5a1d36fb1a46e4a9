from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import numpy as np
import onnxruntime as engine
import pytest
from onnx import TensorProto

from medtex_edge.bundle import Bundle
from medtex_edge.errors import BackendError, BundleError, SettingsError
from medtex_edge.runtime.backend import Backend, onnxruntime, open_backend
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.backend.onnxruntime import runner


@pytest.fixture
def opened(tmp_path: Path) -> Bundle:
    return Bundle.open(bundles.bundle(tmp_path / "tiny.medtex"))


def test_a_bundle_answers_with_the_shapes_and_types_of_its_contract(opened: Bundle) -> None:
    with onnxruntime.open(opened, threads=1) as backend:
        outputs = backend.infer(np.zeros((1, 64, 64, 3), np.uint8))
    assert outputs.probabilities.shape == (1, 3)
    assert outputs.saliency.shape == (1, 16, 16)
    assert outputs.probabilities.dtype == outputs.saliency.dtype == np.float32


def test_a_red_lesion_is_found_and_the_saliency_shows_where(opened: Bundle) -> None:
    image = np.ascontiguousarray(bundles.disc(64, lesion=True)[None, ..., ::-1])
    backend: Backend
    with open_backend("onnxruntime", opened, threads=1) as backend:
        outputs = backend.infer(image)
        healthy = backend.infer(bundles.disc(64)[None])
    assert outputs.probabilities[0].argmax() == 2
    assert healthy.probabilities[0].argmax() == 0
    row, column = np.unravel_index(outputs.saliency[0].argmax(), (16, 16))
    assert column >= 8
    assert 5 <= row <= 10


def test_an_image_that_is_not_contiguous_gives_the_same_answer(opened: Bundle) -> None:
    image = bundles.disc(64, lesion=True)[None, :, :, ::-1]
    with onnxruntime.open(opened, threads=1) as backend:
        strided = backend.infer(image)
        packed = backend.infer(np.ascontiguousarray(image))
    np.testing.assert_array_equal(strided.probabilities, packed.probabilities)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 32, 64, 3), "uint8"),
        ((64, 64, 3), "uint8"),
        ((1, 64, 64, 3), "float32"),
        ((0, 64, 64, 3), "uint8"),
    ],
)
def test_an_image_of_the_wrong_shape_or_type_states_what_was_expected(
    opened: Bundle, shape: tuple[int, ...], dtype: str
) -> None:
    with onnxruntime.open(opened, threads=1) as backend, pytest.raises(BackendError, match="64, 64, 3"):
        backend.infer(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        (bundles.graph(size=32), "image: expected"),
        (bundles.graph(count=4), "probabilities: expected"),
        (bundles.graph(broken="names"), "heatmap"),
        (bundles.graph(input_type=TensorProto.FLOAT), "tensor\\(float\\)"),
        (bundles.graph(broken="nan"), "saliency: expected numbers in 0..1, the engine gave nan"),
        (bundles.graph(broken="range"), "saliency: expected numbers in 0..1"),
        (b"not a graph", "refuses the graph"),
        (bundles.graph()[:-100], "refuses the graph"),
    ],
    ids=["size", "classes", "names", "type", "nan", "range", "text", "cut"],
)
def test_a_graph_that_breaks_the_contract_is_refused_at_open(model: bytes, fragment: str) -> None:
    with pytest.raises(BundleError, match=fragment) as caught:
        onnxruntime.open_graph(model, bundles.contract(), threads=1)
    assert "\n" not in caught.value.message


def test_a_graph_with_a_fixed_batch_of_one_is_accepted() -> None:
    with onnxruntime.open_graph(bundles.graph(batch=1), bundles.contract(), threads=1) as backend:
        assert backend.infer(np.zeros((1, 64, 64, 3), np.uint8)).saliency.shape == (1, 16, 16)
        with pytest.raises(BackendError, match="inference failed"):
            backend.infer(np.zeros((2, 64, 64, 3), np.uint8))


def test_a_closed_backend_raises_an_error(opened: Bundle) -> None:
    backend = onnxruntime.open(opened, threads=1)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.infer(np.zeros((1, 64, 64, 3), np.uint8))


def test_unknown_engines_providers_precisions_and_threads_name_what_there_is(opened: Bundle) -> None:
    with pytest.raises(SettingsError, match="onnxruntime"):
        open_backend("openvino", opened)
    with pytest.raises(BackendError, match="CPUExecutionProvider"):
        open_backend("onnxruntime:NoSuchProvider", opened)
    with pytest.raises(BundleError, match="fp32"):
        open_backend("onnxruntime", opened, precision="int8")
    with pytest.raises(SettingsError, match="at least 1"):
        open_backend("onnxruntime", opened, threads=0)


def test_golden_vectors_come_out_on_the_machine_that_made_them(opened: Bundle) -> None:
    with onnxruntime.open(opened, threads=1) as backend:
        drift = check_golden(backend, opened)
    assert drift.count == 2
    assert max(drift.probability, drift.saliency) < 1e-5


def test_golden_vectors_that_drift_are_refused_with_the_differences(tmp_path: Path) -> None:
    drifted = Bundle.open(bundles.bundle(tmp_path / "drifted.medtex", drift=0.3))
    with onnxruntime.open(drifted, threads=1) as backend, pytest.raises(BundleError, match="saliency by 0"):
        check_golden(backend, drifted)


class Installation:
    """ONNX Runtime with providers that this machine has not: sessions run on the CPU, unless one is `broken`."""

    def __init__(self, *offered: str, broken: bool = False) -> None:
        self.offered, self.broken = [*offered, onnxruntime.CPU], broken

    def get_available_providers(self) -> list[str]:
        return self.offered

    def InferenceSession(self, model: bytes, options: Any, providers: list[str]) -> Any:
        session = engine.InferenceSession(model, options, providers=[onnxruntime.CPU])
        if not self.broken:
            session.get_providers = lambda: providers
        return session

    def __getattr__(self, name: str) -> Any:
        return getattr(engine, name)


def installed(monkeypatch: pytest.MonkeyPatch, *offered: str, broken: bool = False) -> None:
    monkeypatch.setattr(runner, "_import", lambda: Installation(*offered, broken=broken))


@pytest.mark.parametrize("name", ["OpenVINO", "openvino", "OpenVINOExecutionProvider"])
def test_a_provider_goes_by_its_full_name_or_its_short_one(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    installed(monkeypatch, "OpenVINOExecutionProvider")
    with open_backend(f"onnxruntime:{name}", opened) as backend:
        assert backend.name == "onnxruntime:OpenVINOExecutionProvider:fp32"


@pytest.mark.parametrize(("name", "package"), [
    ("CUDA", "onnxruntime-gpu"), ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    ("OpenVINO", "onnxruntime-openvino"), ("XNNPACK", "--use_xnnpack"),
])  # fmt: skip
def test_a_provider_that_is_not_there_is_answered_with_what_is_and_what_brings_it(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    installed(monkeypatch, "DnnlExecutionProvider", "AzureExecutionProvider")
    with pytest.raises(BackendError, match="DnnlExecutionProvider, CPUExecutionProvider, got") as caught:
        open_backend(f"onnxruntime:{name}", opened)
    assert package in caught.value.hint


def test_a_provider_that_is_offered_and_does_not_load_never_passes_for_the_cpu(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, onnxruntime.CUDA, broken=True)
    with pytest.raises(BackendError, match="does not load"):
        open_backend("onnxruntime:cuda", opened)
    with onnxruntime.open_best(opened, threads=1) as backend:
        assert backend.name == "onnxruntime:CPUExecutionProvider:fp32"


def test_the_best_provider_is_cuda_where_it_works(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, onnxruntime.CUDA)
    with onnxruntime.open_best(opened, threads=1) as backend:
        assert backend.name == "onnxruntime:CUDAExecutionProvider:fp32"
