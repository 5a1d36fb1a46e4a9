"""The graphs, versions and options that the builder refuses, each with its reason."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import tensorrt_kit
import tensorrt_rtx as rtx
from bundles import SIZE, contract, graph
from onnx import TensorProto, helper
from tensorrt_graphs import changed, node_of, small

from medtex_edge.errors import BackendError, BundleError, SettingsError
from medtex_edge.export.tensorrt.builder import build

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning"),
]


def test_a_graph_that_is_not_what_the_contract_promises_is_refused_before_it_is_built() -> None:
    reported: list[str] = []
    with pytest.raises(BundleError, match=r"fp16: expected the inputs image \(1, 32, 32, 3\) uint8.*has.*64, 64"):
        build(rtx, graph(), contract=contract(32), label="fp16", progress=lambda phase, _: reported.append(phase))
    with pytest.raises(BundleError, match=r"expected the outputs probabilities \(1, 2\)"):
        build(rtx, graph(), contract=contract(SIZE, ("a", "b")))
    with pytest.raises(BundleError, match=r"saliency.*the graph has .*heatmap"):
        build(rtx, graph(broken="names"), contract=contract())
    with pytest.raises(BundleError, match=r"image .* uint8 by the contract, the graph has image .* fp32"):
        build(rtx, changed(lambda g: make_float(g)), contract=contract())
    assert reported == []


def make_float(made: onnx.GraphProto) -> None:
    made.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def test_an_unknown_operator_is_refused_with_its_node() -> None:
    def change(made: onnx.GraphProto) -> None:
        node_of(made, "Softmax").op_type = "Softestmax"

    match = r"fp16: TensorRT for RTX 1\.\S+ refuses node the_Softmax \(Softestmax\): \w+"
    with pytest.raises(BundleError, match=match) as caught:
        build(rtx, changed(change), label="fp16")
    assert "&&" not in caught.value.message
    assert caught.value.hint


def test_a_node_that_reads_nothing_is_refused_with_its_name() -> None:
    def change(made: onnx.GraphProto) -> None:
        node_of(made, "AveragePool").input[0] = "nowhere"

    with pytest.raises(BundleError, match=r"node the_AveragePool \(AveragePool\): Node input was not registered"):
        build(rtx, changed(change))


def test_two_types_in_one_operation_are_refused_since_the_network_is_strongly_typed() -> None:
    def change(made: onnx.GraphProto) -> None:
        node_of(made, "Cast").attribute[0].i = TensorProto.FLOAT16

    with pytest.raises(BundleError, match=r"refuses node \S+ \(MatMul\): .*type Half and .*type Float") as caught:
        build(rtx, changed(change))
    assert "/_src/" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"no graph at all", graph()[:600]], ids=["empty", "other", "cut"])
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"^fp32: TensorRT for RTX \S+ refuses the graph: \w+"):
        build(rtx, content, label="fp32")


def test_a_graph_that_fits_no_batch_of_one_is_refused_with_the_reason() -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["x", "sides"], ["y"], "halves"),
    ]
    content = small(nodes, [helper.make_tensor("sides", TensorProto.INT64, (2,), [2, -1])], [2, "M"], side=5)
    with pytest.raises(
        BundleError, match=r"(?m)refuses the graph for this batch: .*\[1,5,5,3\] to \[2,-1\]$"
    ) as caught:
        build(rtx, content, capability="8.6")
    assert "/_src/" not in caught.value.message


@pytest.mark.parametrize(
    ("log_text", "reason", "hint"),
    [
        ("Error Code 10: Internal Error (No implementation for node conv_1.)", "node conv_1$", "runs the same"),
        ("Requested amount of GPU memory (9 bytes) could not be allocated.", "GPU memory", "close other programs"),
        ("", "no reason was given", "backend"),
    ],
)
def test_an_engine_that_cannot_be_built_is_an_error_with_the_reason(
    version: tensorrt_kit.Version, log_text: str, reason: str, hint: str
) -> None:
    class Failing(rtx.Builder):  # type: ignore[misc]
        def __init__(self, log: Any) -> None:
            super().__init__(log)
            self.log = log

        def build_serialized_network(self, network: object, config: object) -> None:
            if log_text:
                self.log.log(rtx.ILogger.ERROR, log_text)

    failing = tensorrt_kit.Version(version.__version__, rtx, Builder=Failing)
    with pytest.raises(BackendError, match=rf"(?m)^int8: TensorRT \S+ builds no engine: .*{reason}") as caught:
        build(failing, graph(), label="int8")
    assert hint in caught.value.hint


@pytest.mark.parametrize("number", ["8.6.2", "9.3.0", "10.2.0.post1"])
def test_a_version_before_10_3_is_refused_before_anything_of_it_is_used(number: str) -> None:
    with pytest.raises(BackendError, match=rf"tensorrt: expected version 10\.3 or newer, this is {number}") as caught:
        build(tensorrt_kit.old(number), graph())
    assert "JetPack" in caught.value.hint


def test_the_part_of_tensorrt_that_only_runs_engines_is_refused() -> None:
    with pytest.raises(BackendError, match=r"tensorrt 10\.3\.0: expected the whole of TensorRT"):
        build(tensorrt_kit.old("10.3.0"), graph())


def test_a_builder_that_does_not_start_is_an_error() -> None:
    class Builder:
        def __init__(self, logger: Any) -> None:
            logger.log(rtx.ILogger.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    module = tensorrt_kit.Version("10.3.0", rtx)
    vars(module)["Builder"] = Builder
    with pytest.raises(BackendError, match=r"TensorRT 10\.3\.0 does not start: CUDA initialization failure") as caught:
        build(module, graph())
    assert "doctor" in caught.value.hint


@pytest.mark.parametrize("capability", ["8.7", "86", "sm86", ""])
def test_a_capability_that_rtx_does_not_know_is_refused_with_those_it_does(capability: str) -> None:
    with pytest.raises(SettingsError, match=r"expected one of .*8\.6, 8\.9, 12\.0") as caught:
        build(rtx, graph(), capability=capability)
    assert "CURRENT" not in caught.value.message


def test_memory_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 1 MiB"):
        build(rtx, graph(), memory_mib=0)
