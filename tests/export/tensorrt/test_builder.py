"""The builder, with TensorRT for RTX, which builds without a GPU; and by the names of 10.3, 10.16 and 11.4."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import run_kit
import tensorrt_kit
import tensorrt_rtx as rtx
from bundles import SIZE, contract, graph
from import_kit import HEAVY, loaded_by
from tensorrt_graphs import changed, node_of

from medtex_edge.errors import BundleError, SettingsError
from medtex_edge.export.graph import Deployed
from medtex_edge.export.int8 import quantize
from medtex_edge.export.int8.calibration import observe
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.precision.half import to_half
from medtex_edge.export.tensorrt import report as tensorrt_report
from medtex_edge.export.tensorrt.builder import BatchProfile, Tensor, build

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning"),
]

STUDENTS = {"tf_efficientnet_lite0": 224, "mobilenetv4_conv_small": 64}
CAPABILITIES = ("8.6", "8.9")


def quantised(full: bytes, size: int) -> bytes:
    """The int8 graph with every layer in eight bits; on what its grids were found does not matter to a builder."""
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    layers = quantize.layers(full)
    tensors = sorted({name for layer in layers for name in layer.inputs})
    scales = observe(full, tensors, noise, lambda _: None)
    return to_half(quantize.quantise(full, scales, {layer.node for layer in layers}))


@pytest.fixture(scope="module", params=STUDENTS)
def exported(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A student of random weights as it is exported: "size", and the graph in each precision."""
    size = STUDENTS[request.param]
    made = run_kit.model(dataclasses.replace(run_kit.CONFIG, student=request.param, size=size))
    full = to_onnx(Deployed(made), size)
    return {"size": size, "fp32": full, "fp16": to_half(full), "int8": quantised(full, size)}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_exported_graph_becomes_an_engine_of_what_the_contract_promises(
    exported: dict[str, Any], precision: str
) -> None:
    size, content = exported["size"], exported[precision]
    plans = []
    for capability in CAPABILITIES:
        agreed = contract(size, run_kit.CLASSES)
        engine = build(rtx, content, contract=agreed, capability=capability, label=precision)
        assert engine.inputs == (Tensor("image", "uint8", (1, size, size, 3)),)
        assert set(engine.outputs) == {
            Tensor("probabilities", "fp32", (1, 3)), Tensor("saliency", "fp32", (1, size // 4, size // 4))
        }  # fmt: skip
        plans.append(engine.plan)
    assert plans[0] != plans[1]
    convolutions = [layer for layer in engine.layers if layer["kind"] == "convolution"]
    # fp16 keeps the saliency's last convolution, whose logits half precision knows too coarsely.
    in_full = {"fp32": len(convolutions), "fp16": 1, "int8": 0}[precision]
    found = tensorrt_report.precisions(convolutions)
    assert found.pop("fp32", 0) == in_full
    assert found == ({} if precision == "fp32" else {precision: len(convolutions) - in_full})
    names = {node.name for node in onnx.load_from_string(content).graph.node if node.op_type == "Conv"}
    assert {name for layer in convolutions for name in layer["nodes"]} == names


def test_a_profile_leaves_the_batch_open() -> None:
    engine = build(rtx, graph(), contract=contract(), profile=BatchProfile(1, 2, 4), capability="8.6")
    assert engine.inputs[0].shape == (-1, SIZE, SIZE, 3)
    assert {tensor.shape[0] for tensor in engine.outputs} == {-1}
    assert engine.plan != build(rtx, graph(), capability="8.6").plan


def test_a_graph_for_one_photograph_needs_no_profile_and_takes_none() -> None:
    assert build(rtx, graph(batch=1), contract=contract(), capability="8.6").inputs[0].shape == (1, SIZE, SIZE, 3)
    with pytest.raises(BundleError, match=r"expected a batch that is open and .* has \(1, 64"):
        build(rtx, graph(batch=1), profile=BatchProfile(1, 1, 2))
    with pytest.raises(BundleError, match=r"expected a batch that is open or 1 and .* has \(4, 64"):
        build(rtx, graph(batch=4))


def test_only_the_batch_may_be_open() -> None:
    def change(made: onnx.GraphProto) -> None:
        made.input[0].type.tensor_type.shape.dim[1].dim_param = "H"

    with pytest.raises(BundleError, match=r"other sides that are not, the graph has \(-1, -1, 64, 3\)"):
        build(rtx, changed(change))


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 4), (1, 4, 2)])
def test_a_profile_out_of_order_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(SettingsError, match="1 <= smallest <= usual <= largest"):
        BatchProfile(*sizes)


def test_the_surfaces_differ_in_what_was_removed_and_renumbered() -> None:
    first, last = tensorrt_kit.surface("10.3.0"), tensorrt_kit.surface("11.4.0")
    assert {"FP16", "INT8"} <= set(first["BuilderFlag"])
    assert not {"FP16", "INT8"} & set(last["BuilderFlag"])
    assert "EXPLICIT_BATCH" not in last["NetworkDefinitionCreationFlag"]
    assert first["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"] == "1"
    assert last["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"] == "0"
    with pytest.raises(AttributeError, match=r"10\.3\.0 has no IBuilderConfig\.max_num_tactics"):
        _ = tensorrt_kit.Version("10.3.0", rtx).Builder(rtx.Logger()).create_builder_config().max_num_tactics


@pytest.mark.parametrize("profile", [None, BatchProfile(1, 2, 4)])
def test_every_version_builds_by_its_own_names(
    version: tensorrt_kit.Version, profile: BatchProfile | None, tmp_path: Path
) -> None:
    reported: list[float] = []
    engine = build(
        version, graph(), contract=contract(), profile=profile, timing_cache=tmp_path / "timings",
        progress=lambda _, fraction: reported.append(fraction),
    )  # fmt: skip
    assert (engine.module, engine.version) == ("tensorrt", version.__version__)
    assert len(engine.plan) > 1000
    assert reported[-1] == 1.0
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in version.touched
    assert "BuilderFlag.TF32" in version.touched


def test_every_version_names_the_node_that_it_refuses(version: tensorrt_kit.Version) -> None:
    def change(made: onnx.GraphProto) -> None:
        node_of(made, "Softmax").op_type = "Softestmax"

    match = rf"TensorRT {version.__version__} refuses node the_Softmax \(Softestmax\)"
    with pytest.raises(BundleError, match=match):
        build(version, changed(change))


def test_every_version_but_rtx_builds_for_the_gpu_at_hand_alone(version: tensorrt_kit.Version) -> None:
    with pytest.raises(SettingsError, match="for the GPU at hand alone"):
        build(version, graph(), capability="8.7")


def test_the_builder_imports_neither_torch_nor_onnx_nor_tensorrt() -> None:
    loaded = loaded_by("import medtex_edge.export.tensorrt.builder")
    assert not (HEAVY | {"tensorrt_rtx", "onnxruntime", "cv2"}) & loaded
