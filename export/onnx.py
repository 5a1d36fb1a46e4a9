"""From a PyTorch module to a small, plain ONNX file without a trace of the machine that it was made on."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from medtex_edge.contract import INPUT_NAME, OUTPUT_NAMES
from medtex_edge.errors import BackendError
from medtex_edge.export.arithmetic import shapes

OPSET = 18  # read by every TensorRT from 10.3 on, and by ONNX Runtime from 1.14 on
# The IR version of each opset, 19 being that of int8; the exporter writes a later one that old runtimes refuse.
IR_VERSIONS = {18: 8, 19: 9}
BATCH = "N"
_EXAMPLES = 2  # a batch of one would be taken for a constant


def to_onnx(module: nn.Module, size: int, outputs: Sequence[str] = OUTPUT_NAMES) -> bytes:
    """Export `module` (image (N, size, size, 3) uint8 -> probabilities, saliency) for any batch N.

    Raises `BackendError` where the exporter fails or the checker refuses what it made.
    """
    example = torch.zeros(_EXAMPLES, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim(BATCH, min=1, max=1024)
    try:
        with torch.inference_mode(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the exporter's own making; what matters is checked below
            program = torch.onnx.export(
                module, (example,), dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME],
                output_names=list(outputs), dynamic_shapes=({0: batch},), external_data=False, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(
            f"PyTorch cannot export this model to ONNX: {first[:300]}",
            hint="train a student of another family, such as tf_efficientnet_lite0",
        ) from error
    assert program is not None
    model = program.model_proto
    plain(model)
    return serialise(model)


def plain(model: onnx.ModelProto) -> None:
    """Clean up in place: constant resizes, no dead nodes, no names of files, functions or machines."""
    model.ir_version = IR_VERSIONS[model.opset_import[0].version]
    model.producer_name, model.producer_version = "medtex-edge", ""
    model.domain = model.doc_string = ""
    del model.metadata_props[:]
    _fix_resizes(model.graph)
    _drop_unused(model.graph)
    _strip(model.graph)


def serialise(model: onnx.ModelProto) -> bytes:
    """Check and serialise; the same model gives the same bytes. Raises `BackendError` where the checker refuses."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BackendError(f"the exported graph is no valid ONNX: {str(error).splitlines()[0][:300]}") from error
    return bytes(model.SerializeToString(deterministic=True))


def _fix_resizes(graph: onnx.GraphProto) -> None:
    """A resize to sizes computed from the batch becomes one by constant scales, where these are exact."""
    known = shapes(graph)
    for index, node in enumerate(graph.node):
        if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
            continue
        before, after = known.get(node.input[0], ()), known.get(node.output[0], ())
        sides = list(zip(before[2:], after[2:], strict=False))
        if len(before) != 4 or len(after) != 4 or not all(a and b and b % a == 0 for a, b in sides):
            continue
        scales = np.array([1, 1, *(b / a for a, b in sides if a and b)], np.float32)
        name = f"scales_{index}"
        graph.initializer.append(numpy_helper.from_array(scales, name))
        source = node.input[0]
        del node.input[:]
        node.input.extend([source, "", name])


def _drop_unused(graph: onnx.GraphProto) -> None:
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(name for name in node.input if name)
            kept.append(node)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [item for item in graph.initializer if item.name in wanted])
    made = {name for node in kept for name in node.output}
    _replace(graph.value_info, [item for item in graph.value_info if item.name in made])


def _strip(graph: onnx.GraphProto) -> None:
    # The exporter notes source files, stack traces and functions everywhere; they are of the training machine.
    graph.doc_string, graph.name = "", "medtex"
    del graph.metadata_props[:]
    for items in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]


def _replace(field: Any, items: list[Any]) -> None:
    # Copies first: clearing a repeated field frees its items.
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)
