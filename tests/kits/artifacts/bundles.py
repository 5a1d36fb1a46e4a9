"""A tiny graph and its bundle, for tests of the runtime: red is disease, and saliency lies where red is."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from medtex_edge.bundle import Golden, write_bundle
from medtex_edge.contract import Contract, OperatingPoint
from medtex_edge.runtime.backend import onnxruntime

SIZE = 64
GRID = 16
CLASSES = ("healthy", "mild", "severe")


def contract(size: int = SIZE, classes: tuple[str, ...] = CLASSES) -> Contract:
    """(N, size, size, 3) -> (N, C) and (N, size / 4, size / 4); the last class alone is referable."""
    point = OperatingPoint(0.5, 0.9, 0.95, (0.8, 0.99), 0.9, (0.8, 0.95), 20, 40)
    return Contract(
        name="tiny", classes=classes, height=size, width=size, saliency_height=size // 4,
        saliency_width=size // 4, referable=(len(classes) - 1,), ordered=True, temperature=1.0,
        operating_point=point, created="2026-01-01T00:00:00Z",
    )  # fmt: skip


def graph(
    size: int = SIZE,
    count: int = len(CLASSES),
    *,
    batch: str | int = "N",
    gain: float = 60.0,
    input_type: int = TensorProto.UINT8,
    broken: str = "",
) -> bytes:
    """An ONNX file: saliency = red - green over 4 x 4 pixels; the logit of the last class follows its mean.

    `broken` = "nan" or "range" spoils the saliency, "names" the outputs' names.
    """
    bias = np.zeros(count, np.float32)
    bias[0] = 4.0
    weight = np.zeros((1, count), np.float32)
    weight[0, -1] = gain
    constants = {
        "to_red": np.array([1 / 255, -1 / 255, 0], np.float32).reshape(3, 1),
        "four": np.array(4.0, np.float32),
        "low": np.array(0.0, np.float32),
        "high": np.array(1.0 if broken != "range" else 9.0, np.float32),
        "spoil": np.array({"nan": np.nan, "range": 5.0}.get(broken, 0.0), np.float32),
        "weight": weight,
        "bias": bias,
        "one": np.array([1], np.int64),
        "last": np.array([3], np.int64),
        "flat": np.array([0, -1], np.int64),
    }
    saliency = "saliency" if broken != "names" else "heatmap"
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["pixels", "to_red"], ["red"]),  # (N, H, W, 1)
        helper.make_node("Squeeze", ["red", "last"], ["red2"]),
        helper.make_node("Unsqueeze", ["red2", "one"], ["red4"]),  # (N, 1, H, W)
        helper.make_node("AveragePool", ["red4"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["cells", "four"], ["steep"]),
        helper.make_node("Squeeze", ["steep", "one"], ["steep3"]),
        helper.make_node("Clip", ["steep3", "low", "high"], ["map"]),
        helper.make_node("Add", ["map", "spoil"], [saliency]),
        helper.make_node("Reshape", ["map", "flat"], ["row"]),
        helper.make_node("ReduceMean", ["row"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    side = size // 4
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", input_type, [batch, size, size, 3])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, count]),
                helper.make_tensor_value_info(saliency, TensorProto.FLOAT, [batch, side, side]),
            ],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden(model: bytes, agreed: Contract, count: int = 2) -> Golden:
    """Golden vectors of that graph on noise and on a red disc."""
    images = np.random.default_rng(0).integers(0, 256, (count, agreed.height, agreed.width, 3), np.uint8)
    images[-1] = disc(agreed.height, lesion=True)[..., ::-1]
    with onnxruntime.open_graph(model, agreed) as backend:
        outputs = backend.infer(images)
    return Golden(images, outputs.probabilities, outputs.saliency)


def bundle(path: Path, *, size: int = SIZE, drift: float = 0.0) -> Path:
    """A whole bundle; `drift` is added to its golden saliency, so that no device can reproduce it."""
    agreed, model = contract(size), graph(size)
    vectors = golden(model, agreed)
    if drift:
        spoiled = np.clip(vectors.saliency + np.float32(drift), 0, 1)
        vectors = Golden(vectors.images, vectors.probabilities, spoiled)
    return write_bundle(path, agreed, {"fp32": model}, vectors, {"made": time.strftime("%Y")}, {})


def disc(
    side: int = 256, *, lesion: bool = False, width: int | None = None, seed: int = 0, level: int = 120
) -> npt.NDArray[np.uint8]:
    """(side, width, 3) uint8 BGR: a lit, textured disc on black, like a fundus, with a red patch."""
    rng = np.random.default_rng(seed)
    width = width or side
    y, x = np.mgrid[:side, :width]
    inside = (x - width / 2 + 0.5) ** 2 + (y - side / 2 + 0.5) ** 2 < (side * 0.47) ** 2
    # Octaves of equal strength, as in nature: without the coarse ones, nothing to compare with would survive blurring.
    texture = np.zeros((side, width), np.float32)
    for cells in (6, 12, 24, 48, 96):
        octave = rng.normal(0, 1, (cells, cells * width // side)).astype(np.float32)
        texture += cv2.resize(octave, (width, side), interpolation=cv2.INTER_CUBIC)
    grey = level + 0.08 * level * texture + rng.normal(0, 0.01 * level, (side, width))
    image = np.where(inside, grey, 2)[..., None].repeat(3, 2)
    if lesion:
        image[((x - width / 2 - side / 8) ** 2 + (y - side / 2) ** 2) < (side / 6) ** 2] *= (0.3, 0.3, 1.7)
    return np.clip(image, 0, 255).astype(np.uint8)
