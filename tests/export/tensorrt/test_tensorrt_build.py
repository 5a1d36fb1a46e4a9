"""The builder, with TensorRT for RTX, which builds without a GPU; and by the names of 10.3, 10.16 and 11.4."""

from __future__ import annotations

import dataclasses
import gc
import json
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import run_kit
import tensorrt_kit
import tensorrt_rtx as rtx
from bundles import SIZE, contract, graph
from import_kit import HEAVY, loaded_by
from onnx import TensorProto, helper

from medtex_edge.errors import BackendError, BundleError, SettingsError, StorageError
from medtex_edge.export.graph import Deployed
from medtex_edge.export.int8 import quantize
from medtex_edge.export.int8.calibration import observe
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.precision.half import to_half
from medtex_edge.export.tensorrt import report as tensorrt_report
from medtex_edge.export.tensorrt.builder import BatchProfile, Tensor, build
from medtex_edge.export.tensorrt.config import Timings
from medtex_edge.export.tensorrt.progress import Watch, plain_words

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use del obj instead:DeprecationWarning"),
]

STUDENTS = {"tf_efficientnet_lite0": 224, "mobilenetv4_conv_small": 64}
CAPABILITIES = ("8.6", "8.9")


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    """Builders that tracebacks kept alive warn when they go; here, rather than at the end of the whole run."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


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


@pytest.fixture(params=tensorrt_kit.VERSIONS)
def version(request: pytest.FixtureRequest) -> Iterator[tensorrt_kit.Version]:
    """TensorRT for RTX by the names of another version."""
    return tensorrt_kit.Version(request.param, rtx)


def changed(change: Any) -> bytes:
    """The tiny graph after `change(graph)`."""
    model = onnx.load_from_string(graph())
    change(model.graph)
    return bytes(model.SerializeToString())


def node_of(made: onnx.GraphProto, operator: str) -> onnx.NodeProto:
    node = next(node for node in made.node if node.op_type == operator)
    node.name = f"the_{operator}"
    return node


def small(nodes: list[Any], constants: list[Any], shape: list[Any], side: int = 8) -> bytes:
    """A graph from image (N, side, side, 3) to y of that shape."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    made = helper.make_graph(
        nodes, "small", [image], [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], constants
    )
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())


# --- real graphs ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_exported_graph_becomes_an_engine_of_what_the_contract_says(
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


# --- what is refused ------------------------------------------------------------------------------------------


def test_a_graph_that_is_not_what_the_contract_says_is_refused_before_it_is_built() -> None:
    told: list[str] = []
    with pytest.raises(BundleError, match=r"fp16: expected the inputs image \(1, 32, 32, 3\) uint8.*has.*64, 64"):
        build(rtx, graph(), contract=contract(32), label="fp16", progress=lambda phase, _: told.append(phase))
    with pytest.raises(BundleError, match=r"expected the outputs probabilities \(1, 2\)"):
        build(rtx, graph(), contract=contract(SIZE, ("a", "b")))
    with pytest.raises(BundleError, match=r"saliency.*the graph has .*heatmap"):
        build(rtx, graph(broken="names"), contract=contract())
    with pytest.raises(BundleError, match=r"image .* uint8 by the contract, the graph has image .* fp32"):
        build(rtx, changed(lambda g: make_float(g)), contract=contract())
    assert told == []


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
    with pytest.raises(BundleError, match=r"refuses the graph for this batch: .*\[1,5,5,3\] to \[2,-1\]$") as caught:
        build(rtx, content, capability="8.6")
    assert "/_src/" not in caught.value.message


@pytest.mark.parametrize(
    ("said", "reason", "hint"),
    [
        ("Error Code 10: Internal Error (No implementation for node conv_1.)", "node conv_1$", "runs the same"),
        ("Requested amount of GPU memory (9 bytes) could not be allocated.", "GPU memory", "close other programs"),
        ("", "no reason was given", "backend"),
    ],
)
def test_an_engine_that_cannot_be_built_is_an_error_with_the_reason(
    version: tensorrt_kit.Version, said: str, reason: str, hint: str
) -> None:
    class Failing(rtx.Builder):  # type: ignore[misc]
        def __init__(self, log: Any) -> None:
            super().__init__(log)
            self.log = log

        def build_serialized_network(self, network: object, config: object) -> None:
            if said:
                self.log.log(rtx.ILogger.ERROR, said)

    failing = tensorrt_kit.Version(version.__version__, rtx, Builder=Failing)
    with pytest.raises(BackendError, match=rf"^int8: TensorRT \S+ builds no engine: .*{reason}") as caught:
        build(failing, graph(), label="int8")
    assert hint in caught.value.hint


@pytest.mark.parametrize("number", ["8.6.2", "9.3.0", "10.2.0.post1"])
def test_a_version_before_10_3_is_refused_before_anything_is_asked_of_it(number: str) -> None:
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


# --- batches --------------------------------------------------------------------------------------------------


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


# --- versions -------------------------------------------------------------------------------------------------


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
    told: list[float] = []
    engine = build(
        version, graph(), contract=contract(), profile=profile, timing_cache=tmp_path / "timings",
        progress=lambda _, fraction: told.append(fraction),
    )  # fmt: skip
    assert (engine.module, engine.version) == ("tensorrt", version.__version__)
    assert len(engine.plan) > 1000
    assert told[-1] == 1.0
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


# --- the layer report -----------------------------------------------------------------------------------------

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
def test_an_inspector_that_says_nothing_gives_no_layers(text: str) -> None:
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


def test_where_the_engine_cannot_be_loaded_the_report_is_of_the_network_and_says_so(
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


# --- progress and stopping ------------------------------------------------------------------------------------


def test_progress_rises_to_one_in_the_builders_own_words() -> None:
    told: list[tuple[str, float]] = []
    build(rtx, graph(), capability="8.6", progress=lambda phase, fraction: told.append((phase, fraction)))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len(set(fractions)) > 5
    assert "Building engine" in {phase for phase, _ in told}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no room on the screen")])
def test_what_the_callback_raises_stops_the_build_and_comes_out(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def progress(phase: str, fraction: float) -> None:
        calls.append(phase)
        if len(calls) == 3:
            raise error

    with pytest.raises(type(error)) as caught:
        build(rtx, graph(), capability="8.6", progress=progress)
    assert caught.value is error
    assert len(calls) == 3
    assert capfd.readouterr() == ("", "")
    assert build(rtx, graph(), capability="8.6").plan


@pytest.fixture
def python_hears_ctrl_c() -> Iterator[None]:
    """As in the foreground; what a shell starts in the background is deaf to it, tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_hears_ctrl_c")
def test_ctrl_c_stops_the_build_wherever_it_falls(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    calls = []

    def progress(phase: str, fraction: float) -> None:
        calls.append(phase)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build(rtx, graph(), capability="8.6", progress=progress)
    assert len(calls) == 3
    watch = Watch()
    with watch.interruptible():
        signal.raise_signal(signal.SIGINT)  # outside of every callback
    assert not watch.stepped("any", 0)
    with pytest.raises(KeyboardInterrupt):
        watch.check()
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr() == ("", "")


def test_a_build_in_another_thread_leaves_the_handlers_alone() -> None:
    found: list[Any] = []

    def work() -> None:
        build(rtx, graph(), capability="8.6", progress=lambda *_: found.append(signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(found) == {before}


def test_a_phase_within_a_phase_moves_the_bar_by_its_share() -> None:
    told: list[float] = []
    watch = Watch(lambda _, fraction: told.append(fraction))
    watch.started("whole", None, 2)
    watch.started("part", "whole", 4)
    assert watch.stepped("part", 0)
    assert told[-1] == 1 / 8
    for step in (1, 2, 3, 9):
        watch.stepped("part", step)
    watch.finished("part")
    watch.started("part", "whole", 2)  # the same phase once more, in the same step: the bar does not go back
    watch.stepped("part", 0)
    watch.finished("part")
    watch.stepped("whole", 1)
    watch.stepped("never started", 1)
    watch.finished("whole")
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_watch_may_be_called_by_many_threads() -> None:
    told: list[float] = []
    watch = Watch(lambda _, fraction: told.append(fraction))
    watch.started("whole", None, 4)

    def work(name: str) -> None:
        watch.started(name, "whole", 1000)
        for step in range(1000):
            watch.stepped(name, step)
            watch.heard(2, "a warning")
        watch.finished(name)

    threads = [threading.Thread(target=work, args=(f"part {index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1 / 4, abs=1 / 500)
    watch.check()
    assert len(watch.warnings) == watch.warnings.maxlen


def test_nothing_of_a_build_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    build(rtx, graph(), capability="8.6")
    with pytest.raises(BundleError):
        build(rtx, b"no graph")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic inputs, but no profile. "
         "In validate at /_src/optimizer/api/network.cpp:4023)", "Network has dynamic inputs, but no profile"),
        ("[optimizer.cpp::computeCosts::4120] Error Code 10: Internal Error (Could not find any implementation for "
         "node {ForeignNode[a...b]}.)", "Could not find any implementation for node {ForeignNode[a...b]}"),
        ('creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
         "Plugin not found, are the plugin name, version, and namespace correct?"),
        ("Assertion failed: (ctx->tensors().count(name)): Node input was not registered.",
         "Node input was not registered"),
        ("out of memory", "out of memory"),
        ("", ""),
    ],
)  # fmt: skip
def test_an_error_of_tensorrt_is_put_in_plain_words(message: str, words: str) -> None:
    assert plain_words(message) == words


def test_the_missing_driver_is_not_taken_for_the_reason_where_there_is_another() -> None:
    watch = Watch()
    watch.heard(1, "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: too old)")
    assert "cudaError 35" in watch.errors[0]
    watch.heard(0, "Error Code 2: Internal Error (the true one)")
    assert watch.reason() == "the true one"


# --- the timing cache -----------------------------------------------------------------------------------------


def test_the_timing_cache_is_written_and_read_again(version: tensorrt_kit.Version, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "timings"
    assert build(version, graph(), timing_cache=path).warnings == ()
    assert path.stat().st_size > 0
    assert build(version, graph(), timing_cache=path).plan
    path.write_bytes(b"damaged")
    assert build(version, graph(), timing_cache=path).plan
    assert path.read_bytes() != b"damaged"


def test_rtx_measures_nothing_and_keeps_no_timing_cache(tmp_path: Path) -> None:
    build(rtx, graph(), capability="8.6", timing_cache=tmp_path / "timings")
    assert list(tmp_path.iterdir()) == []


def test_a_timing_cache_of_another_gpu_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "timings").write_bytes(b"foreign")
    given: list[bytes] = []

    def create(content: bytes) -> Any:
        given.append(content)
        return SimpleNamespace(content=content, serialize=lambda: b"fresh")

    config = SimpleNamespace(create_timing_cache=create, set_timing_cache=lambda cache, _: cache.content == b"")
    timings = Timings(tensorrt_kit.old("10.3.0"), config, tmp_path / "timings")
    assert given == [b"foreign", b""]
    assert timings.keep() == ()
    assert (tmp_path / "timings").read_bytes() == b"fresh"


def test_a_timing_cache_that_cannot_be_written_costs_no_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    engine = build(tensorrt_kit.Version("10.3.0", rtx), graph(), timing_cache=tmp_path / "file" / "timings")
    assert engine.plan
    assert [note for note in engine.warnings if "the timing cache was not kept" in note]


def test_a_timing_cache_that_is_a_folder_is_an_error_before_the_build(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        build(tensorrt_kit.Version("10.3.0", rtx), graph(), timing_cache=tmp_path)


# --- the device -----------------------------------------------------------------------------------------------


def test_the_builder_imports_neither_torch_nor_onnx_nor_tensorrt() -> None:
    loaded = loaded_by("import medtex_edge.export.tensorrt.builder")
    assert not (HEAVY | {"tensorrt_rtx", "onnxruntime", "cv2"}) & loaded
