"""The gate on the engine, where a machine has one; ONNX Runtime stands for TensorRT, whose own tests need no gate."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import bundles
import numpy as np
import pytest
from rich.console import Console

from medtex_edge.errors import BackendError, BundleError, ParityError
from medtex_edge.export import gate, parity
from medtex_edge.export.gate import Proof, ProofCase, prove_fp32
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import Backend, NonsenseError, onnxruntime
from medtex_edge.runtime.backend.tensorrt import runner
from medtex_edge.runtime.engines import key as engine_key

COUNT = 6


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ProofCase:
    """Drawn eyes, and the tiny graph as the trained model."""
    small = [bundles.disc(bundles.SIZE, lesion=index % 2 == 0, seed=index)[..., ::-1] for index in range(COUNT)]
    images = np.ascontiguousarray(small)
    with onnxruntime.open_graph(bundles.graph(), bundles.contract()) as backend:
        expected = parity.of_backend(backend, images)
    keys = tuple(f"eye-{index}" for index in range(COUNT))
    picture = tmp_path_factory.mktemp("out") / "tiny.refused.png"
    return ProofCase(bundles.contract(), images, keys, expected, COUNT, images[:0], picture)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def prove(case: ProofCase, output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Proof]:
    """The gate on an engine that answers as the graph `runs` does, or whose build or start `fails`."""

    def proved(runs: bytes, fails: Exception | None = None, at: str = "open") -> Proof:
        def build(trt: ModuleType, model: bytes, **options: Any) -> Any:
            if fails and at == "build":
                raise fails
            return SimpleNamespace(plan=runs, version="10.3.0")

        def open_engine(plan: bytes, agreed: Any, **options: Any) -> Backend:
            if fails and at == "open":
                raise fails
            try:
                return onnxruntime.open_graph(plan, agreed)
            except BundleError as error:
                raise NonsenseError(error.message) from error

        monkeypatch.setattr(engine_key, "lacks_tensorrt", lambda: False)
        monkeypatch.setattr(runner, "module", lambda: ModuleType("tensorrt"))
        monkeypatch.setattr(gate.builder, "build", build)
        monkeypatch.setattr(runner, "open_engine", open_engine)
        with ProgressDisplay(Console(file=output, width=200)) as steps:
            full = prove_fp32(bundles.graph(), case, steps)
            return gate.prove_engine("fp32", full, case, steps)

    return proved


def test_an_engine_that_answers_as_the_model_does_is_in_the_proof(prove: Callable[..., Proof]) -> None:
    proof = prove(bundles.graph(gain=60.0001))
    assert list(proof.parities) == ["onnxruntime", "tensorrt"]
    assert proof.parities["tensorrt"].photographs == COUNT
    assert 0 < proof.parities["tensorrt"].probability < 1e-3


def test_an_engine_with_other_answers_is_refused_with_its_numbers_and_a_picture(
    prove: Callable[..., Proof], case: ProofCase
) -> None:
    assert case.picture is not None
    case.picture.unlink(missing_ok=True)
    with pytest.raises(ParityError, match=r"TensorRT.*probability .*bound 0\.001.*tiny\.refused\.png"):
        prove(bundles.graph(gain=30.0))
    assert case.picture.stat().st_size > 1000


@pytest.mark.parametrize("broken", ["nan", "range"])
def test_an_engine_whose_answers_are_none_is_refused(prove: Callable[..., Proof], broken: str) -> None:
    with pytest.raises(ParityError, match=r"fp32: the exported graph does not work: .*expected numbers in 0\.\.1"):
        prove(bundles.graph(broken=broken))


def test_a_graph_that_tensorrt_refuses_makes_no_bundle(prove: Callable[..., Proof]) -> None:
    with pytest.raises(BundleError, match="refuses node x"):
        prove(bundles.graph(), BundleError("fp32: TensorRT 10.3.0 refuses node x (Conv)"), "build")


@pytest.mark.parametrize("at", ["build", "open"])
def test_where_no_engine_runs_the_proof_is_what_it_was_and_that_is_reported(
    prove: Callable[..., Proof], output: io.StringIO, at: str
) -> None:
    proof = prove(bundles.graph(), BackendError("pycuda is missing"), at)
    assert list(proof.parities) == ["onnxruntime"]
    assert "fp32 is not proved on this machine's GPU: pycuda is missing" in output.getvalue()
    assert "engine for this GPU" not in output.getvalue(), "a step that failed is not ticked off"


def test_without_a_gpu_nothing_is_tried_and_nothing_reported(
    prove: Callable[..., Proof], case: ProofCase, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = prove(bundles.graph())
    monkeypatch.setattr(engine_key, "lacks_tensorrt", lambda: True)
    before, plain = output.getvalue(), replace(proof, parities={"onnxruntime": proof.parities["onnxruntime"]})
    with ProgressDisplay(Console(file=output)) as steps:
        assert gate.prove_engine("fp32", plain, case, steps) is plain
    assert output.getvalue() == before


def test_a_refusal_without_a_place_for_its_picture_draws_none(case: ProofCase, tmp_path: Path) -> None:
    nowhere = replace(case, picture=None, expected=(1 - case.expected[0], case.expected[1]))
    with ProgressDisplay(Console(quiet=True)) as steps, pytest.raises(ParityError, match="no bundle was written"):
        prove_fp32(bundles.graph(), nowhere, steps)
    assert not list(tmp_path.iterdir())
