"""The report of an engine's layers: precision, and the nodes fused into each."""

from __future__ import annotations

import json

import pytest
import tensorrt_kit
import tensorrt_rtx as rtx
from bundles import graph
from onnx import TensorProto, helper
from tensorrt_graphs import small

from medtex_edge.export.tensorrt import report as tensorrt_report
from medtex_edge.export.tensorrt.builder import build

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning"),
]


# As the inspector of TensorRT 10 writes it with detailed verbosity.
INSPECTED = """{"Layers": [{
  "Name": "Reformatting CopyNode for Input Tensor 0 to conv_1 + relu_1", "LayerType": "Reformat",
  "Inputs": [{"Name": "x", "Dimensions": [1,3,64,64], "Format/Datatype": "Row major linear FP32"}],
  "Outputs": [{"Name": "x'", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
  "ParameterType": "Reformat", "Metadata": ""
},{
  "Name": "conv_1 + relu_1", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "x'", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
  "Outputs": [{"Name": "y", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
  "Weights": {"Type": "Int8", "Count": 864}, "Bias": {"Type": "Float", "Count": 32},
  "TacticName": "sm80_xmma_fprop", "Metadata": "[ONNX Layer: conv_1]\x1e[ONNX Layer: relu_1]"
},{
  "Name": "__myl_Cast_myl0_1", "LayerType": "kgen",
  "Inputs": [{"Name": "image", "Format/Datatype": "UInt8"}], "Outputs": [{"Name": "z", "Format/Datatype": "Half"}],
  "Metadata": "[ONNX Layer: cast]"
}, "head", {"Name": "shape", "LayerType": "Shape"}],
"Bindings": ["image", "probabilities", "saliency"]}"""


def test_the_inspectors_layers_come_with_precision_and_the_nodes_fused_into_each() -> None:
    layers = tensorrt_report.of_engine(INSPECTED)
    assert [layer["precision"] for layer in layers] == ["fp32", "int8", "fp16", "unknown", "unknown"]
    assert [layer["nodes"] for layer in layers] == [[], ["conv_1", "relu_1"], ["cast"], [], []]
    assert [layer["name"] for layer in layers][1::2] == ["conv_1 + relu_1", "head"]
    assert layers[1]["kind"] == "CaskConvolution"


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_an_inspector_that_returns_nothing_gives_no_layers(text: str) -> None:
    assert tensorrt_report.of_engine(text) == []


def test_where_there_is_a_gpu_the_report_is_of_the_engine(
    version: tensorrt_kit.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_report, "has_device", lambda: True)
    seeing = tensorrt_kit.Version(version.__version__, rtx, Runtime=tensorrt_kit.runtime_that_tells(INSPECTED))
    report = build(seeing, graph()).report()
    assert (report["source"], len(report["layers"])) == ("engine", 5)
    assert report["fused"] == report["graph_layers"] - 5
    assert report["precisions"] == {"unknown": 2, "fp32": 1, "int8": 1, "fp16": 1}


def test_where_the_engine_cannot_be_loaded_the_report_is_of_the_network_and_marks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorrt_report, "has_device", lambda: True)
    blind = tensorrt_kit.Version("10.3.0", rtx, Runtime=tensorrt_kit.runtime_that_tells(""))
    report = json.loads(json.dumps(build(blind, graph()).report()))
    assert (report["source"], report["fused"]) == ("network", None)
    assert report["graph_layers"] == len(report["layers"]) > 5
    assert "plan" not in report
    assert report["bytes"] > 1000


def test_a_layer_that_reads_one_quantised_and_one_plain_input_does_not_count_as_int8() -> None:
    constants = [helper.make_tensor(name, TensorProto.FLOAT, (), [1.0]) for name in ("scale", "one")]
    constants.append(helper.make_tensor("zero", TensorProto.INT8, (), [0]))
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "dequantise"),
        helper.make_node("Add", ["d", "x"], ["mixed"], "mixed"),
        helper.make_node("Mul", ["mixed", "one"], ["m"], "plain"),
        helper.make_node("Add", ["d", "d"], ["n"], "both"),
        helper.make_node("Sub", ["m", "n"], ["y"], "last"),
    ]
    content = small(nodes, constants, ["N", 8, 8, 3])
    engine = build(rtx, content, capability="8.6")
    assert {layer["name"]: layer["precision"] for layer in engine.layers if layer["kind"] == "elementwise"} == {
        "mixed": "fp32", "plain": "fp32", "both": "int8", "last": "fp32"
    }  # fmt: skip
