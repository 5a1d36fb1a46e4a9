"""`report.json`: what was measured, and where the model comes from. No photograph, no name of one, no folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from medtex_edge.errors import BundleError
from medtex_edge.export.estimate.latency import estimate
from medtex_edge.export.graph import Cost
from medtex_edge.export.parity import BOUNDS, TIE, flips_allowed
from medtex_edge.export.precision.half import half_share
from medtex_edge.files import without_folders
from medtex_edge.train.run_folder import Run

if TYPE_CHECKING:
    from medtex_edge.export.gate import Proof, ProofCase

_PACKAGES = ("medtex-edge", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy", "opencv-python")


def report_of(
    run: Run, case: ProofCase, proofs: Mapping[str, Proof], counted: Cost, command: str, times: Mapping[str, float]
) -> dict[str, Any]:
    """Metrics of the run, parity, size, `times` (ms) and estimate by precision, cost, provenance.

    The contract's own fields are not repeated.
    """
    made = {
        "command": command,
        "exported": case.contract.created,
        "versions": {name: _version(name) for name in _PACKAGES},
        "run": {name: value for name, value in run.card.items() if name not in ("operating_point", "classes")},
        "settings": asdict(run.config),
    }
    report = {
        "metrics": run.metrics,
        "photographs": {"val": case.validation, "train": len(case.images) - case.validation},
        "precisions": {name: _of_proof(name, proof) | _timed(times.get(name)) for name, proof in proofs.items()},
        "cost": asdict(counted),
        "provenance": made,
    }
    return {name: without_folders(value) for name, value in report.items()}


def _of_proof(name: str, proof: Proof) -> dict[str, Any]:
    result: dict[str, Any] = {
        "bytes": len(proof.model),
        "parity": {engine: found.to_json() for engine, found in proof.parities.items()},
        "bounds": _bounds(name, proof),
        "estimate": _estimate(proof.model),
    }
    if proof.int8 is not None:
        result |= {"int8_share": proof.int8.share, **proof.int8.to_json(), "largest_value": proof.peak}
    elif proof.peak is not None:
        result |= {
            "half_share": half_share(proof.model),
            "largest_value": proof.peak,
            "kept_in_fp32": list(proof.fp32_fallback),
            "tries": [asdict(one) for one in proof.attempts],
        }
    return result


def _timed(milliseconds: float | None) -> dict[str, Any]:
    return {} if milliseconds is None else {"cpu_ms": round(milliseconds, 3)}


def _estimate(model: bytes) -> dict[str, Any]:
    """Of the GPU time; a graph of which none can be made is a good graph nevertheless."""
    try:
        return estimate(model)
    except BundleError as error:
        return {"note": f"none: {error.message}"}


def _bounds(name: str, proof: Proof) -> dict[str, float]:
    bounds = BOUNDS[name]
    allowed = min((flips_allowed(found, bounds) for found in proof.parities.values()), default=0)
    return {**asdict(bounds), "label_flips": allowed, "verdict_flips": allowed, "tie": TIE}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
