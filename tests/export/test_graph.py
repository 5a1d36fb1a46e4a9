"""The exported fp32 graph: its operators, its opset, what it computes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import run_kit
import torch

from medtex_edge.bundle import Bundle
from medtex_edge.errors import BackendError
from medtex_edge.export import onnx as export_onnx
from medtex_edge.export.graph import Deployed, cost
from medtex_edge.runtime.backend import onnxruntime


def test_the_graph_is_what_the_contract_promises_for_any_batch(exported: Path) -> None:
    made = Bundle.open(exported)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    for name in made.precisions:
        with onnxruntime.open(made, precision=name) as backend:
            together = backend.infer(images)
            alone = [backend.infer(images[i : i + 1]) for i in range(5)]
        assert together.probabilities.shape == (5, 3)
        assert together.saliency.shape == (5, 16, 16)
        np.testing.assert_allclose(together.probabilities, np.concatenate([o.probabilities for o in alone]), atol=1e-5)


def test_the_input_is_cast_before_anything_else(full: bytes) -> None:
    nodes = [node for node in onnx.load_from_string(full).graph.node if "image" in node.input]
    assert [node.op_type for node in nodes] == ["Cast"]


def test_the_graph_holds_no_arithmetic_of_shapes_and_no_batch_normalisation(full: bytes) -> None:
    kinds = {node.op_type for node in onnx.load_from_string(full).graph.node}
    assert not kinds & {"Shape", "Concat", "Constant", "BatchNormalization", "Expand", "Range", "If", "Loop"}
    assert {"Conv", "Resize", "Softmax"} <= kinds


def test_the_graph_is_of_an_opset_that_every_engine_reads(exported: Path) -> None:
    made = Bundle.open(exported)
    for name in made.precisions:
        model = onnx.load_from_string(made.model(name))
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        assert model.ir_version <= 9
        onnx.checker.check_model(model, full_check=True)


def test_nothing_in_the_bundle_names_this_machine(exported: Path, run: Path) -> None:
    content = exported.read_bytes()
    for word in (b"site-packages", b"stack_trace", str(run.parent).encode(), str(Path.home()).encode() + b"/"):
        assert word not in content
    made = Bundle.open(exported)
    assert all(b".py" not in made.model(name) for name in made.precisions)
    report = made.report
    assert report["metrics"]["saliency"]["masks"] == "x"  # the run has /home/ann/x
    assert not re.search(r'"(/|~|[A-Z]:\\)', json.dumps(report))


def test_the_module_that_is_exported_computes_what_the_trained_one_does() -> None:
    trained = run_kit.model(seed=1)
    trained.temperature = 1.7
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        for ours, theirs in zip(Deployed(trained)(images), trained(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_multiply_adds_are_those_of_the_layers() -> None:
    made = run_kit.model()
    counted = cost(made)
    assert counted.student_parameters == sum(p.numel() for p in made.student.parameters())
    classifier = made.student.net.get_classifier()
    stem = made.student.net.conv_stem
    assert counted.student_multiply_adds > classifier.weight.numel() + stem.weight.numel() * 32 * 32
    assert 0 < counted.explainer_multiply_adds < counted.student_multiply_adds


def test_a_model_that_cannot_be_exported_is_one_clear_error() -> None:
    class Undecided(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = image.float()
            return (x, x) if x.sum() > 3 else (x + 1, x)

    with pytest.raises(BackendError, match="cannot export this model") as caught:
        export_onnx.to_onnx(Undecided(), 8)
    assert "\n" not in caught.value.message
