"""Teachers of every form answer the same, or give the reason why they cannot."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from medtex_edge.errors import SettingsError, TeacherError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.teacher import FileOptions, load_teacher, to_size
from medtex_edge.train.models.weights import create_model

CPU = Compute(torch.device("cpu"), None)
CLASSES = ("healthy", "mild", "severe")


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.conv(x).relu().mean(dim=(2, 3)))
        return out


def _pt2(path: Path, *, batch: int | None = None) -> Tiny:
    model = Tiny().eval()
    shapes = None if batch else ({0: torch.export.Dim("n")},)
    program = torch.export.export(model, (torch.zeros(batch or 2, 3, 32, 32),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return model


def _onnx(path: Path, *, softmax: bool, nhwc_uint8: bool = False, classes: int = 3) -> np.ndarray:
    """mean colour x a matrix -> logits or probabilities."""
    weight = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    nodes, name = [], "image"
    if nhwc_uint8:
        nodes.append(helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT))
        name = "f"
    nodes.append(helper.make_node("ReduceMean", [name], ["m"], axes=[1, 2] if nhwc_uint8 else [2, 3], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["m", "w"], ["logits"]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["answer"], axis=1))
    kind, shape = (TensorProto.UINT8, ["n", 32, 32, 3]) if nhwc_uint8 else (TensorProto.FLOAT, ["n", 3, 32, 32])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("answer" if softmax else "logits", TensorProto.FLOAT, ["n", classes])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return weight


@pytest.mark.parametrize("batch", [None, 4])
def test_a_torch_export_program_answers_as_the_model_it_came_from(tmp_path: Path, batch: int | None) -> None:
    model = _pt2(tmp_path / "t.pt2", batch=batch)
    teacher = load_teacher(str(tmp_path / "t.pt2"), CLASSES, CPU, FileOptions(mean=(0.5,) * 3, std=(0.5,) * 3))
    x = torch.rand(5, 3, 48, 48)
    wanted = torch.softmax(model((to_size(x, 32) - 0.5) / 0.5), 1).detach()
    torch.testing.assert_close(teacher.answer(x).probabilities, wanted)
    assert teacher.feature_channels == ()
    assert any("L_mid is switched off" in note for note in teacher.notes)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("nhwc_uint8", [True, False])
def test_an_onnx_file_answers_in_its_own_layout_and_range(tmp_path: Path, softmax: bool, nhwc_uint8: bool) -> None:
    weight = torch.from_numpy(_onnx(tmp_path / "t.onnx", softmax=softmax, nhwc_uint8=nhwc_uint8))
    teacher = load_teacher(str(tmp_path / "t.onnx"), CLASSES, CPU)
    x = (torch.rand(4, 3, 32, 32) * 255).round() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colour = x.mean(dim=(2, 3)) * 255 if nhwc_uint8 else (x.mean(dim=(2, 3)) - mean) / std
    torch.testing.assert_close(teacher.answer(x).probabilities, torch.softmax(colour @ weight, 1), atol=1e-4, rtol=1e-3)


def test_a_teacher_of_other_classes_is_refused_with_both_counts(tmp_path: Path) -> None:
    _onnx(tmp_path / "t.onnx", softmax=True, classes=7)
    teacher = load_teacher(str(tmp_path / "t.onnx"), CLASSES, CPU)
    with pytest.raises(TeacherError, match=r"\(N, 3\).*\(2, 7\)"):
        teacher.answer(torch.rand(2, 3, 32, 32))


def _rewrite(path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    prefix = next(iter(members)).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))
        for name, content in (extra or {}).items():
            archive.writestr(f"{prefix}/{name}", content)


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("exploded"),)  # type: ignore[return-value]


def test_a_program_whose_opening_could_run_code_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "t.pt2"
    bomb = io.BytesIO()
    torch.save({"x": Bomb()}, bomb)

    def poisoned_inputs(name: str, content: bytes) -> bytes:
        return bomb.getvalue() if name.endswith("sample_inputs/model.pt") else content

    def asks_for_pickle(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith(".json") else content

    def evil_shape(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        value = json.loads(content)
        value["evil"] = {"expr_str": "__import__('os').system('touch exploded')"}
        return json.dumps(value).encode()

    def unchanged(name: str, content: bytes) -> bytes:
        return content

    custom = {"data/constants/opaque_obj_0": pickle.dumps(Bomb())}
    for change, extra in ((poisoned_inputs, None), (asks_for_pickle, None), (evil_shape, None), (unchanged, custom)):
        _pt2(path)
        _rewrite(path, change, extra)
        with pytest.raises(TeacherError):
            load_teacher(str(path), CLASSES, CPU)
        assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["t.pt2", "t.onnx"])
def test_a_file_that_is_no_model_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("not a model")
    with pytest.raises(TeacherError, match="t\\."):
        load_teacher(str(tmp_path / name), CLASSES, CPU)


def test_timm_weights_from_a_file_teach_and_pickles_do_not(tmp_path: Path) -> None:
    model = create_model("mobilenetv3_small_050", 3, weights="none").eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    teacher = load_teacher(f"timm:mobilenetv3_small_050@{tmp_path / 'w.safetensors'}", CLASSES, CPU)
    answer = teacher.answer(torch.rand(2, 3, 224, 224))
    assert answer.probabilities.shape == (2, 3)
    assert len(answer.features) == len(teacher.feature_channels) == 2
    with pytest.raises(TeacherError, match="has shape"):
        load_teacher(f"timm:mobilenetv3_small_050@{tmp_path / 'w.safetensors'}", ("a", "b"), CPU)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(TeacherError, match="pickled weights can run code"):
        load_teacher(f"timm:mobilenetv3_small_050@{tmp_path / 'w.pth'}", CLASSES, CPU)


def test_an_ensemble_answers_the_mean_of_its_members_and_one_member_is_none(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        save_file(create_model("test_efficientnet", 3, weights="none").state_dict(), tmp_path / f"{name}.safetensors")
    first, second = (f"timm:test_efficientnet@{tmp_path / name}.safetensors" for name in ("a", "b"))
    x = torch.rand(4, 3, 64, 64)
    both = load_teacher(f"ensemble:{first}, {second}", CLASSES, CPU)
    alone = [load_teacher(spec, CLASSES, CPU) for spec in (first, second)]
    means = (alone[0].answer(x).probabilities + alone[1].answer(x).probabilities) / 2
    torch.testing.assert_close(both.answer(x).probabilities, means)
    assert both.feature_channels == alone[0].feature_channels
    torch.testing.assert_close(both.answer(x).features[-1], alone[0].answer(x).features[-1])
    for spec in (f"ensemble:{first}", f"ensemble:{first},ensemble:{second},{second}", "ensemble:"):
        with pytest.raises(TeacherError, match="two teachers or more"):
            load_teacher(spec, CLASSES, CPU)


def test_unknown_teachers_and_names_say_what_is_understood(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no such file"):
        load_teacher(str(tmp_path / "missing"), CLASSES, CPU)
    with pytest.raises(TeacherError, match=r"no model\.json"):
        load_teacher(str(tmp_path), CLASSES, CPU)
    with pytest.raises(SettingsError, match="no model 'efficientnet_lite99'"):
        load_teacher("timm:efficientnet_lite99", CLASSES, CPU)
    with pytest.raises(TeacherError, match="1000 classes"):
        load_teacher("timm:tf_efficientnet_lite0", CLASSES, CPU)
