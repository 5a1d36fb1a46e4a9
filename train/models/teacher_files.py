"""Teachers that come as one file: a torch.export program or an ONNX graph. They have no features."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medtex_edge.errors import TeacherError
from medtex_edge.train.compute.device import Compute
from medtex_edge.train.models.teacher import Answer, FileOptions, to_size

NO_FEATURES = "the teacher has no intermediate features: L_mid is switched off"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MAX_BYTES = 4 << 30
# Shapes are stored as texts that PyTorch hands to sympy, which evaluates them: arithmetic alone is let through.
SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
EXPRESSION = re.compile(r"([\w\s+\-*/(),<>=&|~]|(?<=\d)\.(?=\d))*")
CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
FUNCTIONS = frozenset(
    ["Add", "Eq", "FloorDiv", "Ge", "Gt", "Integer", "Le", "Lt", "Max", "Min", "Mod", "Mul", "Ne", "Pow", "PythonMod"]
)


class _FileTeacher:
    """The common part of both forms: size, layout, chunks of the batch that the file was made for, logits or not."""

    feature_channels: tuple[int, ...] = ()

    def __init__(self, path: Path, classes: int, shape: list[int | None], raw: bool, options: FileOptions) -> None:
        self.name, self._classes, self._raw, self._output = path.name, classes, raw, options.output
        if len(shape) != 4:
            raise TeacherError(f"{path}: expected one image input of 4 axes, got {len(shape)}")
        self._batch = shape[0]
        self._last = shape[3] == 3 and shape[1] != 3  # NHWC
        own = shape[1] if self._last else shape[2]
        if own is not None and options.size not in (None, own):
            raise TeacherError(f"{path}: its input is {own} pixels wide, --teacher-size is {options.size}")
        self.size = own or options.size or 224
        mean, std = options.mean or IMAGENET[0], options.std or IMAGENET[1]
        self._mean, self._std = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self._logits: bool | None = {"logits": True, "probabilities": False}.get(options.output)
        values = "uint8 0..255" if raw else f"(x - {mean}) / {std}"
        self.notes: tuple[str, ...] = (
            f"{path.name}: {self.size} x {self.size}, {'NHWC' if self._last else 'NCHW'}, {values}",
            NO_FEATURES,
        )

    def _run(self, x: Tensor) -> Tensor:
        raise TypeError("a file teacher runs its own file")

    @torch.no_grad()
    def answer(self, x: Tensor) -> Answer:
        device = x.device
        x = to_size(x.float(), self.size).cpu()
        x = (x * 255).round().clamp(0, 255).to(torch.uint8) if self._raw else (x - self._mean) / self._std
        if self._last:
            x = x.permute(0, 2, 3, 1)
        out = torch.cat([self._run(part) for part in self._chunks(x)])[: len(x)].float()
        if out.ndim != 2 or out.shape[1] != self._classes:
            raise TeacherError(
                f"{self.name}: expected answers of shape (N, {self._classes}), got {tuple(out.shape)}",
                hint="a teacher must answer the classes of the photographs, in their order",
            )
        if not bool(torch.isfinite(out).all()):
            raise TeacherError(f"{self.name}: its answers hold NaN or infinity")
        return Answer(self._probabilities(out).to(device), [])

    def _chunks(self, x: Tensor) -> list[Tensor]:
        size = self._batch or len(x)
        missing = -len(x) % size
        if missing:
            x = torch.cat([x, x[:1].expand(missing, *x.shape[1:])])
        return [part.contiguous() for part in torch.split(x, size)]

    def _probabilities(self, out: Tensor) -> Tensor:
        if self._logits is None:
            # Decided once, at the first answer: a decision per batch could change in mid-training.
            rows = bool((out >= 0).all()) and bool((out.sum(dim=1) - 1).abs().max() < 1e-3)
            self._logits = not rows
        return torch.softmax(out, dim=1) if self._logits else out / out.sum(dim=1, keepdim=True)


class Pt2Teacher(_FileTeacher):
    """A `torch.export` program that takes (N, 3, S, S) normalised or uint8 and gives (N, C)."""

    def __init__(self, path: Path, classes: int, compute: Compute, options: FileOptions) -> None:
        data = screen_pt2(path)
        try:
            program = torch.export.load(io.BytesIO(data))
        # torch.export raises its internals' errors for foreign archives; every one means the same to a user.
        except (
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            AssertionError,
            AttributeError,
            OSError,
        ) as error:
            raise TeacherError(f"cannot open {path} as a torch.export program: {error}") from error
        inputs = [
            n for n in program.graph.nodes if n.op == "placeholder" and n.name in program.graph_signature.user_inputs
        ]
        if len(inputs) != 1:
            raise TeacherError(f"{path}: expected one input, the image, got {len(inputs)}")
        value = inputs[0].meta["val"]
        shape = [d if isinstance(d, int) else None for d in value.shape]
        super().__init__(path, classes, shape, value.dtype == torch.uint8, options)
        self._module = program.module()

    def _run(self, x: Tensor) -> Tensor:
        try:
            out = self._module(x)
        except (RuntimeError, AssertionError) as error:
            raise TeacherError(f"{self.name}: refuses pictures of shape {tuple(x.shape)}: {error}") from error
        if isinstance(out, tuple | list) and len(out) == 1:
            out = out[0]
        if not isinstance(out, Tensor):
            raise TeacherError(f"{self.name}: expected one tensor of answers, got {type(out).__name__}")
        return out


class OnnxTeacher(_FileTeacher):
    """An ONNX classifier with one image input and one (N, C) output, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path, classes: int, compute: Compute, options: FileOptions) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import (
            Fail,
            InvalidArgument,
            InvalidGraph,
            InvalidProtobuf,
            NoSuchFile,
            NotImplemented,
        )

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        self._refusals = (
            Fail,
            InvalidArgument,
            InvalidGraph,
            InvalidProtobuf,
            NoSuchFile,
            NotImplemented,
            RuntimeError,
        )
        try:
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except self._refusals as error:
            raise TeacherError(f"cannot open {path} as an ONNX graph: {str(error).splitlines()[0]}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in ("tensor(float)", "tensor(uint8)"):
            came = ", ".join(f"{i.name}: {i.type}" for i in inputs)
            raise TeacherError(f"{path}: expected one image input of float or uint8, got {came}")
        shape = [d if isinstance(d, int) and d > 0 else None for d in inputs[0].shape]
        super().__init__(path, classes, shape, inputs[0].type == "tensor(uint8)", options)
        self._input = inputs[0].name
        wanted = [o.name for o in self._session.get_outputs() if len(o.shape) == 2]
        if not wanted:
            raise TeacherError(f"{path}: none of its outputs has the shape (N, {classes})")
        self._outputs = wanted[:1]

    def _run(self, x: Tensor) -> Tensor:
        try:
            (out,) = self._session.run(self._outputs, {self._input: x.numpy()})
        except self._refusals as error:
            raise TeacherError(
                f"{self.name}: refuses pictures of shape {tuple(x.shape)}: {str(error).splitlines()[0]}"
            ) from error
        return torch.from_numpy(np.ascontiguousarray(out, dtype=np.float32))


def screen_pt2(path: Path) -> bytes:
    """Read a .pt2 archive after checking that opening it runs nothing. Raises `TeacherError`.

    `torch.export.load` falls back to full unpickling for some members and evaluates shape expressions, so archives
    that would need either are refused here; the bytes that were checked are the bytes that are opened.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TeacherError(f"{path} is larger than {MAX_BYTES >> 30} GiB")
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
            if "archive_format" not in names:
                raise TeacherError(
                    f"{path}: not an archive of torch.export.save of PyTorch 2.8 or newer",
                    hint="save it again with a newer PyTorch",
                )
            for full, name in zip(archive.namelist(), names, strict=True):
                _screen_member(path, name, archive.read(full))
    except (OSError, zipfile.BadZipFile) as error:
        raise TeacherError(f"cannot read {path} as a torch.export program: {error}") from error
    return data


def _screen_member(path: Path, name: str, content: bytes) -> None:
    if name.endswith(".pt"):
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except (
            UnpicklingError,
            RuntimeError,
            ValueError,
            EOFError,
        ) as error:  # opening would then unpickle freely
            raise TeacherError(f"{path}: {name} holds more than tensors, so opening it could run code") from error
    elif name.endswith(".json"):
        try:
            value = json.loads(content)
        except ValueError as error:
            raise TeacherError(f"{path}: {name} is no JSON") from error
        _screen_json(path, name, value)
    elif not re.fullmatch(
        r"(data/(weights|constants)/(weight|tensor)_\d+|archive_(format|version)|byteorder|\.data/\w+)", name
    ):
        raise TeacherError(f"{path}: unexpected member {name!r}; custom objects and compiled code are not opened")


def _screen_json(path: Path, name: str, value: Any) -> None:
    if isinstance(value, dict):
        if value.get("use_pickle"):
            raise TeacherError(f"{path}: {name} asks for unpickling, which could run code")
        expression = value.get("expr_str")
        if expression is not None and not _is_arithmetic(expression):
            raise TeacherError(f"{path}: {name} holds a shape expression that is no arithmetic")
        for item in value.values():
            _screen_json(path, name, item)
    elif isinstance(value, list):
        for item in value:
            _screen_json(path, name, item)


def _is_arithmetic(expression: object) -> bool:
    if not isinstance(expression, str):
        return False
    plain = SYMBOL.sub("s", expression)
    return bool(EXPRESSION.fullmatch(plain)) and "__" not in plain and set(CALL.findall(plain)) <= FUNCTIONS
