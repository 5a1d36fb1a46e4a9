"""Distil a student from a teacher of your own: any classifier as an ONNX file.

    python examples/own_onnx_teacher.py [FOLDER]

A few photographs are drawn and the teacher is a toy of a few layers, so that this ends within seconds. Your own teacher
takes (N, 3, H, W) float32, normalised, and gives logits or probabilities. Needs the extra `export`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import medtex_edge
from medtex_edge.train.synthetic.dataset import write_dataset

CLASSES = 5  # the grades 0 to 4 of the drawn photographs
SIZE = 64  # pixels, of student and teacher
PHOTOGRAPHS = 40


def export_teacher(path: Path) -> None:
    """Where your own model is exported."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, CLASSES)
    ).eval()
    example = torch.zeros(2, 3, SIZE, SIZE)
    torch.onnx.export(
        teacher, (example,), str(path), input_names=["image"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip


def main(folder: Path) -> None:
    write_dataset(folder / "photographs", count=PHOTOGRAPHS, size=128)
    export_teacher(folder / "teacher.onnx")
    trained = medtex_edge.train(
        folder / "photographs", label_column="grade", teacher=folder / "teacher.onnx", teacher_output="logits",
        student="test_efficientnet", student_weights="none", teacher_size=SIZE, size=SIZE,
        epochs=1, joint_epochs=1, threads=2, out=folder / "student",
    )  # fmt: skip
    bundle = medtex_edge.export(trained.run, out=folder / "student.medtex").bundle
    print(f"trained {trained.run}, exported {bundle}: {bundle.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]) if sys.argv[1:] else Path(temporary))
