"""The baselines: what a good engineer writes without this project, for frames of a camera and the same student.

    a  ONNX Runtime and OpenCV        the same graph
    b  PyTorch and pytorch-grad-cam   the same student; its map is made afterwards
    c  OpenVINO and OpenCV            the same graph

Written to be fast and short; whoever can make one faster without making it less, should. All of them draw less than we
do: a tint of constant opacity and two lines of text; and check less: one measure of sharpness, equality with the frame
before, no check of answers, of age, of the disc's shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.contract import INPUT_NAME, OUTPUT_NAMES, Contract
from medtex_edge.runtime.display.overlay import scale
from medtex_edge.runtime.frame import Frame

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Box = tuple[int, int, int]  # left, top, side
Engine = Callable[[U8], tuple[F32, F32]]  # (S, S, 3) RGB -> probabilities (C,), saliency (h, w) in 0..1

PARTS = ("quality", "prepare", "infer", "convert", "overlay", "other")
TO_BGR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuyv": cv2.COLOR_YUV2BGR_YUY2, "grey": cv2.COLOR_GRAY2BGR}
_OPACITY = 0.4
_LIT = 20  # of 255
_SAMPLES = 256  # samples along the width


class Pixels:
    """OpenCV's part: quality, crop and overlay of one frame. Buffers are kept between frames where that is faster."""

    def __init__(self) -> None:
        self._lut = scale()[0].reshape(256, 1, 3)
        self._previous: U8 | None = None

    def quality(self, bgr: U8) -> tuple[float, float, bool]:
        """Brightness, sharpness, and whether it equals the frame before, all at quarter size."""
        grey = cv2.cvtColor(cv2.resize(bgr, None, fx=0.25, fy=0.25), cv2.COLOR_BGR2GRAY)
        duplicate = self._previous is not None and np.array_equal(grey, self._previous)
        self._previous = grey
        _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
        return cv2.mean(grey)[0], float(deviation[0, 0] ** 2), duplicate

    def prepare(self, bgr: U8, side: int) -> tuple[U8, Box]:
        """The square around what is lit, found in a decimated frame, as (side, side, 3) RGB."""
        height, width = bgr.shape[:2]
        small = cv2.resize(bgr, (_SAMPLES, _SAMPLES * height // width), interpolation=cv2.INTER_NEAREST)
        _, lit = cv2.threshold(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), _LIT, 255, cv2.THRESH_BINARY)
        x, y, w, h = (round(value * width / _SAMPLES) for value in cv2.boundingRect(lit))
        length = min(max(w, h), width, height)
        left = min(max(x + (w - length) // 2, 0), width - length)
        top = min(max(y + (h - length) // 2, 0), height - length)
        crop = bgr[top : top + length, left : left + length]
        rgb = cv2.cvtColor(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        return rgb, (left, top, length)

    def overlay(self, bgr: U8, saliency: F32, box: Box) -> None:
        """Colours on the small map, enlarged, blended in place: a third faster than to enlarge the map first."""
        left, top, side = box
        colours = cv2.applyColorMap((saliency * 255).astype(np.uint8), self._lut)
        disc = bgr[top : top + side, left : left + side]
        cv2.addWeighted(disc, 1 - _OPACITY, cv2.resize(colours, (side, side)), _OPACITY, 0, dst=disc)

    def overlay_map_first(self, bgr: U8, saliency: F32, box: Box) -> None:
        """The usual order: enlarge the map, colour it, blend."""
        left, top, side = box
        large = cv2.resize((saliency * 255).astype(np.uint8), (side, side))
        disc = bgr[top : top + side, left : left + side]
        cv2.addWeighted(disc, 1 - _OPACITY, cv2.applyColorMap(large, self._lut), _OPACITY, 0, dst=disc)

    @staticmethod
    def draw_text(bgr: U8, label: str, probability: float) -> None:
        """Two lines of text."""
        size = bgr.shape[0] / 800
        for line, text in enumerate((label, f"P(refer) {probability:.2f}")):
            place = (10, round(40 * size * (line + 1)))
            cv2.putText(bgr, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 2)


class Baseline:
    """One frame through `Pixels` and an engine. Returns milliseconds by part and of the whole."""

    def __init__(self, engine: Engine, contract: Contract) -> None:
        self._engine, self._contract, self._pixels = engine, contract, Pixels()
        self._bgr: U8 | None = None

    def __call__(self, frame: Frame) -> dict[str, float]:
        assert frame.pixels is not None
        clock = [time.perf_counter()]
        bgr = frame.pixels
        if frame.layout != "bgr":
            bgr = self._bgr = cv2.cvtColor(bgr, TO_BGR[frame.layout], dst=self._bgr)
        clock.append(time.perf_counter())
        self._pixels.quality(bgr)
        clock.append(time.perf_counter())
        image, box = self._pixels.prepare(bgr, self._contract.width)
        clock.append(time.perf_counter())
        probabilities, saliency = self._engine(image)
        clock.append(time.perf_counter())
        self._pixels.overlay(bgr, saliency, box)
        label = self._contract.classes[int(probabilities.argmax())]
        self._pixels.draw_text(bgr, label, float(probabilities[list(self._contract.referable)].sum()))
        clock.append(time.perf_counter())
        names = ("convert", "quality", "prepare", "infer", "overlay")
        taken = {name: (clock[i + 1] - clock[i]) * 1e3 for i, name in enumerate(names)}
        return {**taken, "other": 0.0, "whole": (clock[-1] - clock[0]) * 1e3}


def by_onnxruntime(model: bytes, threads: int) -> Engine:
    """The graph in ONNX Runtime with its own defaults."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def infer(image: U8) -> tuple[F32, F32]:
        probabilities, saliency = session.run(OUTPUT_NAMES, {INPUT_NAME: image[None]})
        return probabilities[0], saliency[0]

    return infer


def by_openvino(model: bytes, threads: int) -> Engine:
    """The graph in OpenVINO, one frame at a time. In fp32: left alone it takes bf16 where the CPU has it."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"},
    )
    request = compiled.create_infer_request()

    def infer(image: U8) -> tuple[F32, F32]:
        found = request.infer({INPUT_NAME: image[None]}, share_inputs=True, share_outputs=True)
        return found["probabilities"][0], found["saliency"][0]

    return infer


def by_grad_cam(run: Path, threads: int) -> Engine:
    """The run's student in PyTorch, and Grad-CAM of its last stage for the class that it answers."""
    import torch
    from pytorch_grad_cam import GradCAM

    from medtex_edge.evaluate.maps.cams import layers
    from medtex_edge.train.run_folder import load_run

    torch.set_num_threads(threads)
    trained = load_run(run)
    model = trained.load_model()
    cam: Any = GradCAM(model.student, list(layers(model.student).values())[-1:])

    def infer(image: U8) -> tuple[F32, F32]:
        x = model.normalise(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
        saliency = cam(x, None)[0]  # one forward pass for both: it keeps the logits
        probabilities = torch.softmax(cam.outputs[0] / trained.temperature, 0)
        return probabilities.detach().numpy(), saliency

    return infer
