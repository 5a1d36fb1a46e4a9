"""The layers of a TensorRT engine, from the description by its own inspector."""

from __future__ import annotations

import json
import re
from typing import Any

Layer = dict[str, Any]  # "name", "kind", "precision", "nodes": the names of the ONNX nodes that it computes

# The names that the inspector has for them: "Half", "Row major linear FP32", "Thirty-two wide channel vectorized row
# major Int8 format". Widest first.
PRECISIONS = {
    "fp32": r"\bfp32|\bfloat\b", "fp16": r"fp16|half", "bf16": r"bf16|bfloat16", "fp8": r"fp8", "int8": r"\bint8",
}  # fmt: skip
_NODE = re.compile(r"\[ONNX Layer: ([^\]\x1e\x1f]*)\]")


def of_engine(text: str) -> list[Layer]:
    """The layers in the inspector's JSON; [] where it holds none.

    A layer's precision is that of its weights; without weights, that of the first of its inputs, else of its outputs,
    that has one.
    """
    try:
        # Not strict: names are separated by control characters that some versions do not escape.
        found = json.loads(text, strict=False).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [_of_layer({"Name": layer} if isinstance(layer, str) else layer) for layer in found]


def nodes_of(metadata: str) -> list[str]:
    """The names of the ONNX nodes in what TensorRT keeps with a layer."""
    return _NODE.findall(metadata)


def _of_layer(layer: dict[str, Any]) -> Layer:
    weights = layer.get("Weights")
    formats = [weights.get("Type", "")] if isinstance(weights, dict) else []
    formats += [
        str(tensor.get("Format/Datatype", "")) for side in ("Inputs", "Outputs") for tensor in layer.get(side, ())
    ]
    known = (
        name for text in formats for name, pattern in PRECISIONS.items() if re.search(pattern, text, re.IGNORECASE)
    )
    return {
        "name": layer.get("Name", ""),
        "kind": layer.get("LayerType", "unknown"),
        "precision": next(known, "unknown"),
        "nodes": nodes_of(layer.get("Metadata", "")),
    }
