"""What an explanation costs in time: ours in ONNX Runtime, and Grad-CAM in PyTorch, each over the class alone.

Milliseconds belong to one machine on one day; the ratios, from one interleaved run, are what can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from medtex_edge.contract import INPUT_NAME, OUTPUT_NAMES
from medtex_edge.evaluate.maps.cams import layers
from medtex_edge.export.graph import Deployed
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.timing import REPEATS, interleaved
from medtex_edge.train.models.medtex import MedTex

PAUSE_S = 0.03  # where there are several threads, those of the one before go on spinning on the cores for a while


class StudentAlone(nn.Module):
    """image (N, S, S, 3) uint8 -> probabilities (N, C) of the whole picture: the graph without map and mask."""

    def __init__(self, model: MedTex) -> None:
        super().__init__()
        self.deployed = Deployed(model)

    def forward(self, image: Tensor) -> Tensor:
        model = self.deployed.model
        x = image.float().permute(0, 3, 1, 2).contiguous() * self.deployed.scale + self.deployed.shift
        return torch.softmax(model.student(x) * (1 / model.temperature), dim=1)


def explanation_times(model: MedTex, *, repeats: int = REPEATS, threads: int = 1) -> dict[str, Any]:
    """Median milliseconds of one photograph on the CPU, of the class alone and of class and map together.

    {"onnxruntime": {"student_ms", "both_ms", "ratio"}, "gradcam_torch": the same or None without pytorch-grad-cam}.
    Grad-CAM is that of the student's last stage, in PyTorch, and of the student in PyTorch. All four take turns, so
    that whatever else the machine does falls on each. Raises `BackendError` where the model cannot be exported.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, model.size, model.size, 3)).astype(np.uint8)
    runs = _by_onnxruntime(model, image, threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _GradCam(model, image) as gradcam:
            found = interleaved(runs | gradcam.runs(), repeats, PAUSE_S if threads > 1 else 0.0)
    finally:
        torch.set_num_threads(before)
    return {name: _table(found, name) for name in ("onnxruntime", "gradcam_torch")}


def _by_onnxruntime(model: MedTex, image: Any, threads: int) -> dict[str, Callable[[], object]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for their session's next turn by spinning would take the processor from the other one's turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graphs = {
        "student": to_onnx(StudentAlone(model).eval(), model.size, OUTPUT_NAMES[:1]),
        "both": to_onnx(Deployed(model), model.size),
    }

    def run(content: bytes) -> Callable[[], object]:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {INPUT_NAME: image})

    return {f"onnxruntime {name}": run(content) for name, content in graphs.items()}


class _GradCam:
    """The student in PyTorch, with and without Grad-CAM; no hook and no gradient is left at the end."""

    def __init__(self, model: MedTex, image: Any) -> None:
        with torch.no_grad():
            self._x = model.normalise(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)
        self._student = model.student
        self._cam: Any = None

    def __enter__(self) -> _GradCam:
        try:
            from pytorch_grad_cam import GradCAM
        except ImportError:
            return self
        stages = list(layers(self._student).values())
        self._cam = GradCAM(self._student, stages[-1:]) if stages else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._cam is not None:
            self._cam.activations_and_grads.release()
        self._student.zero_grad()

    def runs(self) -> dict[str, Callable[[], object]]:
        if self._cam is None:
            return {}
        cam = self._cam

        def alone() -> object:
            with torch.inference_mode():
                return self._student(self._x)

        return {"gradcam_torch student": alone, "gradcam_torch both": lambda: cam(self._x, None)}


def _table(found: dict[str, float], name: str) -> dict[str, float] | None:
    student, both = found.get(f"{name} student"), found.get(f"{name} both")
    if student is None or both is None:
        return None
    return {"student_ms": 1000 * student, "both_ms": 1000 * both, "ratio": both / student}
