"""evaluation.json by hand: a whole one, with figures of a known order, and changes of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ["none", "mild", "severe"]


def value(mean: float, half: float = 0.05, n: int = 34) -> dict[str, Any]:
    return {"value": mean, "interval": [mean - half, mean + half], "n": n}


def point(sensitivity: float = 0.92, specificity: float = 0.78) -> dict[str, Any]:
    return {
        "threshold": 0.31,
        "target_sensitivity": 0.9,
        "sensitivity": sensitivity,
        "sensitivity_interval": [sensitivity - 0.1, min(1.0, sensitivity + 0.05)],
        "specificity": specificity,
        "specificity_interval": [specificity - 0.1, specificity + 0.08],
    }


def answers(auc: float, accuracy: float) -> dict[str, Any]:
    bins = [
        {"low": 0.3, "high": 0.6, "confidence": 0.5, "accuracy": 0.45, "count": 20},
        {"low": 0.6, "high": 0.8, "confidence": 0.7, "accuracy": 0.68, "count": 25},
        {"low": 0.8, "high": 1.0, "confidence": 0.93, "accuracy": 0.83, "count": 35},
    ]
    return {
        "auc_referable": auc,
        "auc_referable_interval": [auc - 0.06, min(1.0, auc + 0.04)],
        "auc_macro": auc - 0.1,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.1, accuracy + 0.1],
        "qwk": 0.7,
        "n": 80,
        "positives": 41,
        "confusion": [[20, 5, 1], [4, 15, 6], [0, 5, 24]],
        "operating_point": point(),
        "calibration": {"ece": 0.08, "ece_interval": [0.05, 0.13], "nll": 1.1, "brier": 0.45, "bins": bins},
        "roc": {"fpr": [0.0, 0.1, 0.3, 1.0], "tpr": [0.0, 0.7, 0.95, 1.0]},
    }


def row(name: str, kind: str, of: str = "", layer: str = "", seconds: float | None = None, **measures: float) -> Any:
    return {
        "name": name,
        "kind": kind,
        "of": of,
        "layer": layer,
        "measures": {key: value(mean) for key, mean in measures.items()},
        "seconds_per_photograph": seconds,
    }


EXPLANATION_ROWS = [
    row("ours", "ours", seconds=0.004, deletion=0.21, insertion=0.42, fidelity_verdict_referable=0.93, sparsity=0.7,
        area=0.12, area_referable=0.15, randomisation=0.05, max_sensitivity=0.2),
    row("gradcam", "rival", "teacher", "blocks.3", 0.05, deletion=0.33, insertion=0.38),
    row("gradcam", "rival", "teacher", "blocks.6", 0.05, deletion=0.36, insertion=0.35),
    row("gradcam", "rival", "student", "blocks.4", 0.03, deletion=0.30, insertion=0.36),
    row("ig", "rival", "teacher", "", 1.2, deletion=0.35, insertion=0.34),
    row("mean_map", "control", deletion=0.35, insertion=0.33, max_sensitivity=0.0),
    row("uniform", "control", deletion=0.37, insertion=0.37, max_sensitivity=0.0),
]  # fmt: skip
LESION_ROWS = [
    row("ours", "ours", pixel_auc=0.78, pointing=0.91, relevance=2.2, dice=0.2),
    row("gradcam", "rival", "teacher", "blocks.3", pixel_auc=0.68, pointing=0.60),
    row("gradcam", "rival", "teacher", "blocks.6", pixel_auc=0.62, pointing=0.74),
    row("gradcam", "rival", "student", "blocks.4", pixel_auc=0.66, pointing=0.63),
    row("mean_map", "control", pixel_auc=0.60, pointing=0.61),
    row("other_photograph", "control", pixel_auc=0.58, pointing=0.59),
]
FULL: dict[str, Any] = {
    "kind": "evaluation",
    "name": "idrid-0",
    "command": "medtex-edge evaluate runs/idrid-0 --masks lesions",
    "provenance": {"created": "2026-01-02T03:04:05Z", "python": "3.11.2", "machine": "x86_64", "torch": "2.6.0"},
    "subject": {
        "kind": "run", "path": "idrid-0", "student": "tf_efficientnet_lite0", "teacher": "tf_efficientnet_lite2",
        "method": "medtex", "size": 224, "classes": CLASSES, "referable": [1, 2], "seed": 0,
    },
    "data": {"path": "idrid", "split": "val", "n": 80, "fingerprint": "3f9a" * 16, "synthetic": False},
    "answer": {
        "models": {
            "student": answers(0.915, 0.66),
            "student_whole_picture": answers(0.92, 0.67),
            "teacher": answers(0.883, 0.64),
        },
        "agreement": {"label": value(0.8, n=80), "verdict": value(0.92, n=80)},
        "groups": {"camera": {"topcon": answers(0.93, 0.7), "kowa": answers(0.85, 0.6)}},
    },
    "explanation": {
        "n": 80,
        "n_referable": 41,
        "measures": {
            "deletion": {"title": "deletion", "better": "lower", "meaning": "How fast the answer falls."},
            "insertion": {"title": "insertion", "better": "higher", "meaning": "How fast the answer returns."},
            "pixel_auc": {"title": "pixel AUC", "better": "higher", "meaning": "Lesion pixels against the others."},
            "pointing": {"title": "pointing", "better": "higher", "meaning": "The brightest point is on a lesion."},
        },
        "rows": EXPLANATION_ROWS,
        "leakage": {
            "auc_map": 0.81, "auc_shuffled": 0.7, "auc_area_matched": 0.79,
            "interval_difference": [-0.06, 0.1], "readable": False, "n": 80,
        },
        "evaluator": {"backbone": "tf_efficientnet_lite2", "seed": 11, "auc_referable": 0.88, "agreement": 0.75},
        "warnings": ["The teacher was not trained on masked photographs: its deletion and insertion are half noise."],
    },
    "lesions": {
        "n": 34,
        "folder": "idrid_lesions",
        "tolerance": {"dilation": 2, "pointing": 8},
        "rows": LESION_ROWS,
        "kinds": {
            "MA": {"ours": {"pixel_auc": value(0.7), "pointing": value(0.5)}, "mean_map": {"pixel_auc": value(0.6)}},
            "EX": {"ours": {"pixel_auc": value(0.85), "pointing": value(0.7)}},
        },
    },
    "cost": {
        "teacher": {"macs": 640e6, "parameters": 4.8e6},
        "student": {"macs": 370e6, "parameters": 3.4e6},
        "explainer": {"macs": 180e6, "parameters": 0.2e6},
        "graph": {"macs": 550e6, "parameters": 3.6e6},
        "explainer_over_student": 0.49,
        "student_over_teacher": 0.58,
        "onnxruntime": {"student_ms": 10.0, "both_ms": 15.5, "ratio": 1.55},
        "gradcam_torch": {"student_ms": 20.0, "both_ms": 84.0, "ratio": 4.2},
    },
    "gallery": [
        {"key": "IDRiD_003", "role": "failure", "title": "labelled severe, read mild", "file": "gallery/000.png"},
        {"key": "IDRiD_010", "role": "worst", "title": "pixel AUC 0.41", "file": "gallery/001.png"},
        {"key": "IDRiD_020", "role": "best", "title": "pixel AUC 0.93", "file": "gallery/002.png"},
        {"key": "IDRiD_033", "role": "random", "title": "labelled none, read none", "file": "gallery/003.png"},
    ],
    "ablation": {
        "rows": [
            {"name": "ours", "auc_referable": [0.91, 0.92, 0.9], "pixel_auc": [0.77, 0.78, 0.76], "pointing": [0.9]},
            {"name": "without random masks", "auc_referable": [0.9, 0.89, 0.9], "pixel_auc": [0.6, 0.62, 0.61]},
        ]
    },
    "curve": {
        "kind": "curve",
        "fractions": [0.1, 0.25, 0.5, 1.0],
        "seeds": [0, 1, 2],
        "selected_on": "val",
        "methods": {
            name: {
                "title": title,
                "points": [
                    {"fraction": f, "seed": s, "auc_referable": top - drop * (1 - f) + 0.01 * s, "accuracy": 0.6}
                    for f in (0.1, 0.25, 0.5, 1.0)
                    for s in (0, 1, 2)
                ],
            }
            for name, title, top, drop in (
                ("medtex", "MED-TEX", 0.91, 0.08),
                ("hinton", "Hinton distillation", 0.89, 0.1),
                ("supervised", "supervised", 0.88, 0.2),
            )
        },
        "teacher": {"auc_referable": {"0": 0.883, "1": 0.89, "2": 0.88}},
    },
}  # fmt: skip


def full() -> dict[str, Any]:
    """A copy that a test may change."""
    return copy.deepcopy(FULL)


def write_evaluation(folder: Path, evaluation: dict[str, Any]) -> Path:
    """evaluation.json and every picture of its gallery that is named as it should be."""
    (folder / "gallery").mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    for place, entry in enumerate(evaluation.get("gallery", [])):
        strip = np.full((60, 240, 3), 40 * (place % 6), np.uint8)
        if entry["file"].startswith("gallery/") and "/" not in entry["file"].removeprefix("gallery/"):
            cv2.imwrite(str(folder / entry["file"]), strip)
    return folder
