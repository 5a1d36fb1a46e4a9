"""The layers that an engine runs, their precisions, and how much of the graph was fused into each.

The engine's own inspector knows; it needs the engine on a GPU. Where there is none, the network before the build
has the precision that each layer requests, and nothing of fusion.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from types import ModuleType
from typing import Any

from medtex_edge.runtime.backend.tensorrt.layers import PRECISIONS, Layer, nodes_of, of_engine

__all__ = ["Layer", "has_device", "inspect", "of_engine", "of_network", "precision_name", "precisions"]

_NAMES = {"FLOAT": "fp32", "HALF": "fp16"}  # TensorRT's DataType, where its own name in lower case will not do
_UNCOUNTED = ("CONSTANT", "QUANTIZE", "DEQUANTIZE")  # they hold or name types, and become part of other layers
_WEIGHTED = ("CONVOLUTION", "DECONVOLUTION")  # what they read beyond image and weights is a bias


def precision_name(dtype: Any) -> str:
    """TensorRT's DataType -> "fp32", "fp16", "int8", "uint8" ..."""
    name: str = dtype.name
    return _NAMES.get(name, name.lower())


def of_network(network: Any) -> list[Layer]:
    """The layers of a network that is not built yet, without constants and quantisations.

    A layer's precision is the widest of what it reads. Where that comes out of a DequantizeLinear it counts as what
    went in there: that is how explicit quantisation asks for int8.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    maker = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    return [
        {
            "name": layer.name,
            "kind": layer.type.name.lower(),
            "precision": _requested_precision(layer, maker),
            "nodes": nodes_of(layer.metadata),
        }
        for layer in layers
        if layer.type.name not in _UNCOUNTED
    ]


def inspect(trt: ModuleType, plan: bytes, logger: Any) -> list[Layer]:
    """The layers of an engine by its own inspector; [] where this machine cannot load it."""
    # Without a driver some builds of TensorRT do not refuse to load an engine, but end the process.
    if not has_device():
        return []
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return []
    return of_engine(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def has_device() -> bool:
    """Whether a driver is there and sees a GPU. The driver itself answers, and creates no context."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def precisions(layers: list[Layer]) -> dict[str, int]:
    """Precision -> how many layers, most first."""
    return dict(Counter(layer["precision"] for layer in layers).most_common())


def _requested_precision(layer: Any, maker: dict[str, Any]) -> str:
    types = []
    for index in range(min(layer.num_inputs, 2) if layer.type.name in _WEIGHTED else layer.num_inputs):
        tensor = layer.get_input(index)
        if tensor is None:  # an input that was left out
            continue
        source = maker.get(tensor.name)
        if source is not None and source.type.name == "DEQUANTIZE":
            tensor = source.get_input(0)
        types.append(precision_name(tensor.dtype))
    output = precision_name(layer.get_output(0).dtype) if layer.num_outputs else "unknown"
    return next((name for name in PRECISIONS if name in types), output)
