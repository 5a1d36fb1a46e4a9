from __future__ import annotations

import csv
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import bundles
import fake_tensorrt
import numpy as np
import onnx
import pytest
import tensorrt_kit
from fake_cuda import OUT_OF_MEMORY, Gpu
from onnx import TensorProto, helper

from medtex_edge.bundle import Bundle, write_bundle
from medtex_edge.cli import main
from medtex_edge.errors import BackendError, BundleError
from medtex_edge.export.int8 import quantize
from medtex_edge.runtime.backend import graph_parts
from medtex_edge.runtime.backend import profile as profiles
from medtex_edge.runtime.backend.onnxruntime import profile as onnxruntime_profile
from medtex_edge.runtime.backend.profile import RUNS, WARM_UP, profile
from medtex_edge.runtime.backend.tensorrt import engine, runner
from medtex_edge.runtime.backend.tensorrt import profile as tensorrt_profile
from medtex_edge.runtime.bench import profile as bench_profile

FAST = ("--size", "320x240", "--frames", "10")
LAYERS = {"conv_1 + relu_1": 0.25, "head": 0.5, "conv_1 + relu_1 [reformat]": 0.125}
INSPECTED = json.dumps({"Layers": [
    {"Name": "conv_1 + relu_1", "LayerType": "CaskConvolution", "Weights": {"Type": "Half"},
     "Metadata": "[ONNX Layer: conv_1]\x1e[ONNX Layer: relu_1]"},
    {"Name": "head", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
]})  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle in the working folder, and temporary files in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    agreed, model = bundles.contract(), bundles.graph()
    graphs = {"fp32": model, "fp16": bundles.graph(gain=20.0)}  # of which the second gives wrong answers
    return Bundle.open(write_bundle(Path("tiny.medtex"), agreed, graphs, bundles.golden(model, agreed), {}, {}))


def named() -> bytes:
    """image -> explainer -> saliency -> mask -> student, with the names of an export."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["pixels", "model.explainer.head.weight"], ["map"], "head"),
        helper.make_node("Sigmoid", ["map"], ["saliency"], "sigmoid"),
        helper.make_node("Mul", ["pixels", "saliency"], ["masked"], "mask"),
        helper.make_node("MatMul", ["masked", "model.student.net.weight_int8"], ["logits"], "classifier"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], ""),
    ]
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, (4, 4), [0.1] * 16)
        for name in ("model.explainer.head.weight", "model.student.net.weight_int8")
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("saliency", "probabilities")]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4])
    return bytes(helper.make_model(helper.make_graph(nodes, "named", [image], ends, weights)).SerializeToString())


def test_the_part_of_a_node_follows_from_the_weights_that_it_was_computed_with() -> None:
    found = graph_parts.parts(named())
    parts = {name: found[name] for name in ("cast", "head", "sigmoid", "mask", "classifier", "probabilities")}
    assert parts == {
        "cast": "rest", "head": "explainer", "sigmoid": "explainer", "mask": "rest", "classifier": "student",
        "probabilities": "student",
    }  # fmt: skip
    assert {name: found[name] for name in ("masked", "saliency")} == {"masked": "rest", "saliency": "explainer"}


def test_the_nodes_are_those_that_the_onnx_library_reads() -> None:
    for content in (named(), bundles.graph()):
        graph = onnx.load_from_string(content).graph
        assert [(node.name, list(node.input), list(node.output)) for node in graph.node] == graph_parts.nodes(content)
        makers = quantize.explainer_nodes(graph)
        for node in graph.node:
            part = graph_parts.parts(content).get(node.output[0])
            assert part != "explainer" or node.output[0] in makers


def test_a_graph_without_such_names_has_no_parts() -> None:
    assert graph_parts.parts(bundles.graph()) == {}


@pytest.mark.parametrize("cut", [1, 7, 50, 200])
def test_what_is_no_graph_is_an_error(cut: int) -> None:
    with pytest.raises(BundleError, match="no ONNX"):
        graph_parts.nodes(named()[:-cut])
    with pytest.raises(BundleError, match="no ONNX"):
        graph_parts.nodes(b"\xff" * cut)


def test_every_layer_is_reported_and_the_shares_add_up_to_one(tiny: Bundle) -> None:
    found = profile("onnxruntime", tiny, threads=1)
    assert found.clock == "processor"
    assert {"Cast", "MatMul", "AveragePool", "Softmax"} <= {layer.kind for layer in found.layers}
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert {layer.part for layer in found.layers} == {""}
    cast = next(layer for layer in found.layers if layer.kind == "Cast")
    assert (cast.precision, found.layers[0]) == ("uint8", cast)
    assert list(Path("scratch").iterdir()) == []


def test_nothing_is_left_where_the_engine_fails(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_profile, "_read", lambda path: (_ for _ in ()).throw(BackendError("broken")))
    with pytest.raises(BackendError, match="broken"):
        profile("onnxruntime", tiny)
    assert list(Path("scratch").iterdir()) == []


def node(name: str, us: int, provider: str = "CPUExecutionProvider", kind: str = "Conv", reads: str = "float") -> Any:
    arguments = {"op_name": kind, "provider": provider, "input_type_shape": [{reads: [1, 3]}, {"int64": [2]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": arguments}


END = {"cat": "Session", "name": "model_run", "dur": 1}


def test_events_are_separated_by_run_and_only_the_layers_count() -> None:
    start = {"cat": "Session", "name": "session_initialization", "dur": 9000}
    fence = {"cat": "Node", "name": "a_fence_before", "dur": 500, "args": {}}
    events = [start, node("a", 100), fence, node("b", 50), END, node("a", 300), node("b", 70), END]
    clock, watched, runs = onnxruntime_profile.read(events)
    assert (clock, [layer.name for layer in watched]) == ("processor", ["a", "b"])
    assert runs == [{"a": 0.1, "b": 0.05}, {"a": 0.3, "b": 0.07}]


def test_names_of_the_optimiser_lead_back_to_the_graphs_own() -> None:
    name = "InsertedPrecisionFreeCast_getitem_9_nchwc"
    _, (layer,), _ = onnxruntime_profile.read([node(name, 1, reads="float16"), END])
    assert (layer.name, layer.nodes) == (name, ("getitem_9",))
    assert (layer.kind, layer.precision) == ("Conv", "fp16")


def test_a_node_on_a_gpu_takes_what_its_kernels_take() -> None:
    cuda = "CUDAExecutionProvider"
    kernels = [{"cat": "Kernel", "name": "implicit_gemm", "dur": dur} for dur in (200, 50)]
    clock, _, runs = onnxruntime_profile.read([node("a", 7, cuda), *kernels, node("b", 5, cuda), node("c", 3), END])
    assert (clock, runs) == ("gpu", [{"a": 0.25, "b": 0.0, "c": 0.003}])


def test_where_a_gpu_reports_no_times_the_clock_is_that_of_launching() -> None:
    clock, _, runs = onnxruntime_profile.read([node("a", 7, "CUDAExecutionProvider"), END])
    assert (clock, runs) == ("processor, launching only", [{"a": 0.007}])
    report = {"backend": "onnxruntime:CUDA", "clock": clock, "parts": {"": 1.0}, "layers": [{}], "ms": 0.007}
    assert "not that of the GPU" in bench_profile._title(report, "onnxruntime:CUDA fp32")


def test_a_layer_takes_the_median_of_the_runs_and_the_warm_up_counts_for_nothing(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [{"a": 1000.0} for _ in range(1 + WARM_UP)] + [{"a": float(ms), "b": 1.0} for ms in range(RUNS)]
    watched = [profiles.MeasuredLayer(name, "Conv", "fp32", ()) for name in "ab"]
    monkeypatch.setattr(onnxruntime_profile, "watch", lambda *_, **__: ("processor", watched, runs))
    first, second = profile("onnxruntime", tiny).layers
    assert first.ms == statistics.median(range(RUNS))
    assert second.share == pytest.approx(1 / (1 + first.ms))


def test_an_engine_that_reports_no_layers_is_an_error(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_profile, "watch", lambda *_, **__: ("processor", [], []))
    with pytest.raises(BackendError, match="reports no layers"):
        profile("onnxruntime", tiny)


def test_layers_that_were_fused_across_parts_name_both() -> None:
    parts = {"a": "explainer", "b": "student"}
    assert profiles._part(("b", "a", "x"), parts) == "explainer + student"
    assert profiles._part(("a",), parts) == "explainer"
    assert profiles._part((), parts) == "engine"
    assert profiles._part(("a",), {}) == ""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu().install(monkeypatch)


def watch(gpu: Gpu, bundle: Bundle, **plan: Any) -> Any:
    images = np.zeros((4, 64, 64, 3), np.uint8)
    reported = {"layers": LAYERS, "inspected": INSPECTED, **plan}
    trt = fake_tensorrt.module(gpu)
    return tensorrt_profile.watch(bundle, images, precision="fp16", plan=fake_tensorrt.plan(**reported), trt=trt)


@pytest.mark.parametrize("integrated", [True, False], ids=["integrated", "discrete"])
def test_tensorrt_reports_each_layer_of_each_image(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, integrated: bool
) -> None:
    gpu = Gpu(integrated=integrated).install(monkeypatch)
    clock, watched, runs = watch(gpu, tiny)
    assert clock == "gpu"
    assert [layer.name for layer in watched] == list(LAYERS)
    assert [layer.kind for layer in watched] == ["CaskConvolution", "gemm", "unknown"]
    assert [layer.precision for layer in watched] == ["fp16", "fp32", "unknown"]
    assert [layer.nodes for layer in watched] == [("conv_1", "relu_1"), (), ()]
    assert runs == [{name: ms * (1 + run) for name, ms in LAYERS.items()} for run in range(1, 5)]
    assert gpu.launches == 0  # a captured graph reports no layers
    gpu.check()


def test_an_engine_that_does_not_describe_itself_is_reported_by_names(tiny: Bundle, gpu: Gpu) -> None:
    _, watched, _ = watch(gpu, tiny, inspected="")
    assert {layer.kind for layer in watched} == {"unknown"}
    gpu.check()


@pytest.mark.parametrize("failure", [OUT_OF_MEMORY, "an illegal memory access was encountered"])
def test_whichever_call_fails_while_tensorrt_is_watched_nothing_is_left(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    def error(gpu: Gpu) -> str:
        try:
            watch(gpu, tiny)
        except BackendError as error:
            return error.message
        return ""

    gpu = Gpu().install(monkeypatch)
    assert error(gpu) == ""
    for index in range(gpu.calls.index("cuEventElapsedTime") + 1):
        failing = Gpu().install(monkeypatch)
        failing.fail_at, failing.fails_with = index, failure
        if failure == OUT_OF_MEMORY and gpu.calls[index] == "push":  # takes no memory
            continue
        assert failure in error(failing)
        if failing.lost:
            assert not failing.faults
            assert not failing.stack
        else:
            failing.check()


def test_the_profile_of_tensorrt_is_of_this_devices_engine(
    tiny: Bundle, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []
    plan = fake_tensorrt.plan(layers=LAYERS, inspected=INSPECTED)
    monkeypatch.setattr(runner, "built", lambda bundle, precision: requested.append(precision) or plan)
    monkeypatch.setattr(runner, "module", lambda: fake_tensorrt.module(gpu))
    found = profile("tensorrt", tiny, precision="fp16")
    assert requested == ["fp16"]
    assert found.clock == "gpu"
    middle = statistics.median(range(WARM_UP + 2, WARM_UP + RUNS + 2))
    assert [layer.ms for layer in found.layers] == [ms * middle for ms in LAYERS.values()]
    gpu.check()


@pytest.mark.parametrize("version", tensorrt_kit.VERSIONS)
def test_every_version_has_the_names_that_are_used(version: str) -> None:
    names = tensorrt_kit.surface(version)
    assert names["IExecutionContext"]["profiler"] == "="
    assert names["IProfiler"]["report_layer_time"] == "(layer_name, ms)"
    assert names["ICudaEngine"]["create_engine_inspector"] == "()"
    assert names["EngineInspector"]["get_engine_information"] == "(format)"
    assert "JSON" in names["LayerInformationFormat"]


def test_a_real_tensorrt_takes_our_profiler() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    reported: list[tuple[str, float]] = []
    made = engine._profiler(rtx, lambda name, ms: reported.append((name, ms)))
    assert isinstance(made, rtx.IProfiler)
    made.report_layer_time("conv", 0.5)
    assert reported == [("conv", 0.5)]


def test_a_file_has_a_row_for_each_layer_and_the_terminal_the_most_costly(
    tiny: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *FAST, "--profile", "layers.csv"]) == 0
    out = capsys.readouterr().out
    assert "whole" in out
    assert "the 10 most costly of" in out
    assert main(["bench", *FAST, "--profile", "layers.json"]) == 0
    found = json.loads(Path("layers.json").read_text())
    assert found["schema"] == "medtex-edge/profile/1"
    (only,) = found["profiles"]
    with Path("layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [layer["name"] for layer in only["layers"]]
    assert set(rows[0]) == {"backend", "graph", "clock", "layer", "kind", "part", "precision", "ms", "share"}
    assert only["ms"] == pytest.approx(sum(layer["ms"] for layer in only["layers"]), abs=0.01)


def test_the_report_on_standard_output_stays_json(tiny: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *FAST, "--json", "-", "--profile", "layers.json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "medtex-edge/bench/1"
    assert Path("layers.json").exists()


def test_of_all_engines_those_are_watched_that_were_measured(tiny: Bundle) -> None:
    assert main(["bench", *FAST, "--precision", "all", "--profile", "layers.json"]) == 0
    found = json.loads(Path("layers.json").read_text())["profiles"]
    assert [(each["backend"], each["precision"]) for each in found] == [("onnxruntime", "fp32")]


def test_one_of_many_that_cannot_be_profiled_has_its_error_in_the_report(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = bench_profile.profile

    def some(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "tensorrt":
            raise BackendError("it reports no layers")
        return real(name, *arguments, **options)

    monkeypatch.setattr(bench_profile, "profile", some)
    found = bench_profile.measure(tiny.path, [("onnxruntime", "fp32"), ("tensorrt", "fp32")], None)
    assert [each["error"] for each in found["profiles"]] == [None, "it reports no layers"]
    bench_profile.show(found)
    assert "tensorrt fp32: no layers: it reports no layers" in capsys.readouterr().out
    with pytest.raises(BackendError):
        bench_profile.measure(tiny.path, [("tensorrt", "fp32")], None)


@pytest.mark.parametrize(
    ("name", "code", "fragment"),
    [
        ("layers.txt", 2, "expected a name that ends in .json or .csv, got layers.txt"),
        ("layers", 2, ".json or .csv"),
        ("tiny.medtex/layers.csv", 9, "cannot write"),
        ("scratch.json", 9, "cannot write"),
    ],
)
def test_a_file_that_cannot_be_meant_or_written_is_one_line(
    tiny: Bundle, name: str, code: int, fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("scratch.json").mkdir()
    assert main(["bench", *FAST, "--profile", name]) == code
    assert fragment in capsys.readouterr().err


@pytest.mark.parametrize("content", ['[{"cat": "Node", "name": "a_kern', "", "{}"])
def test_a_file_of_events_that_was_cut_off_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "cut.json").write_text(content)
    with pytest.raises(BackendError, match="its profile"):
        onnxruntime_profile._read(tmp_path / "cut.json")
