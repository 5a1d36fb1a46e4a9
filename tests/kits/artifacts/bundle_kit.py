"""Small contracts, golden vectors and bundles for tests; no model in them unless one is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from medtex_edge.bundle import Golden, write_bundle
from medtex_edge.contract import Contract, OperatingPoint

POINT = OperatingPoint(
    threshold=0.5,
    target_sensitivity=0.9,
    sensitivity=0.92,
    sensitivity_interval=(0.81, 0.97),
    specificity=0.8,
    specificity_interval=(0.7, 0.88),
    positives=40,
    negatives=60,
)
CONTRACT = Contract(
    name="toy",
    classes=("healthy", "mild", "severe"),
    height=8,
    width=8,
    saliency_height=2,
    saliency_width=2,
    referable=(1, 2),
    ordered=True,
    temperature=1.5,
    operating_point=POINT,
    created="2026-01-02T03:04:05Z",
)


def contract(**changes: Any) -> Contract:
    return dataclasses.replace(CONTRACT, **changes)


def golden(of: Contract = CONTRACT, count: int = 2, seed: int = 0) -> Golden:
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(len(of.classes)), count).astype(np.float32)
    return Golden(
        images=draw.integers(0, 256, (count, of.height, of.width, 3), dtype=np.uint8),
        probabilities=probabilities,
        saliency=draw.random((count, of.saliency_height, of.saliency_width), dtype=np.float32),
    )


def write_toy(path: Path, **changes: Any) -> Path:
    """A bundle whose models are no models: for everything that does not run them."""
    arguments: dict[str, Any] = {
        "contract": CONTRACT,
        "models": {"fp32": b"not a graph, but some bytes", "fp16": b"others"},
        "golden": golden(),
        "report": {"metrics": {"student": {"auc_referable": 0.9}}},
        "extras": {"model_card.md": b"# toy\n"},
    }
    return write_bundle(path, **{**arguments, **changes})
