"""The answers of one machine for a bundle and some frames, for `check.py` to compare those of two machines.

answers.py frames BUNDLE FRAMES.npz           draw the frames, once for all machines
answers.py answer BUNDLE FRAMES.npz OUT.npz   what this machine makes of them
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medtex_edge.bundle import Bundle
from medtex_edge.image.geometry import crop_resize, find_field_of_view, native_available
from medtex_edge.runtime.backend import open_backend
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.display.overlay import blend_table
from medtex_edge.runtime.display.pixels import draw_saliency
from medtex_edge.runtime.quality.gate import Inspector

Pixels = npt.NDArray[np.uint8]


def frames(bundle: Bundle) -> Iterator[tuple[str, Pixels]]:
    """Name, which begins with the layout, and pixels: what the model sees itself, and discs as cameras give them."""
    import bundles  # needs onnx
    import cv2

    for index, image in enumerate(bundle.golden.images):
        yield f"prepared {index}", image
    for seed, (height, width) in enumerate([(480, 640), (720, 1280), (1080, 1920)]):
        disc = bundles.disc(height, width=width, lesion=seed % 2 == 0, seed=seed)
        yield f"bgr {seed}", disc
        yield f"grey {seed}", cv2.cvtColor(disc, cv2.COLOR_BGR2GRAY).astype(np.uint8)
        planes = cv2.cvtColor(disc, cv2.COLOR_BGR2YUV_I420)
        luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
        pairs = np.stack([chroma[0], chroma[1]], axis=2).reshape(height // 2, width)
        yield f"nv12 {seed}", np.concatenate([luma, pairs])
        yield f"yuyv {seed}", np.stack([luma, pairs.repeat(2, axis=0)], axis=2)


def answer(bundle: Bundle, pictures: dict[str, Pixels]) -> dict[str, npt.NDArray[np.generic]]:
    """Per frame: box, quality metrics, what the model sees, probabilities, saliency and the picture with it."""
    if not native_available():
        raise SystemExit("error: the native module was not loaded")
    c = bundle.contract
    results: dict[str, npt.NDArray[np.generic]] = {}
    with open_backend("onnxruntime", bundle, threads=1) as backend:
        drift = check_golden(backend, bundle)
        results["golden drift"] = np.array([drift.probability, drift.saliency])
        for name, pixels in pictures.items():
            layout = name.split()[0]
            if layout == "prepared":
                outputs = backend.infer(pixels[None])
                results[f"{name}|probabilities"], results[f"{name}|saliency"] = (
                    outputs.probabilities[0],
                    outputs.saliency[0],
                )
                continue
            box = find_field_of_view(pixels, layout=layout)
            prepared = crop_resize(pixels, box, c.height, c.width, layout=layout)
            quality_metrics = Inspector().metrics(pixels, box, prepared, layout)
            outputs = backend.infer(prepared[None])
            if layout == "bgr":
                shown = pixels.copy()
                draw_saliency(shown, np.linspace(0, 1, 56 * 56, dtype=np.float32).reshape(56, 56), box, blend_table())
                results[f"{name}|exact drawn"] = shown
            results[f"{name}|exact box"] = np.array(dataclasses.astuple(box))
            results[f"{name}|exact prepared"] = prepared
            results[f"{name}|exact quality"] = np.array(dataclasses.astuple(quality_metrics))
            results[f"{name}|probabilities"] = outputs.probabilities[0]
            results[f"{name}|saliency"] = outputs.saliency[0]
    return results


def main() -> None:
    what, bundle = sys.argv[1], Bundle.open(Path(sys.argv[2]))
    if what == "frames":
        np.savez(sys.argv[3], **dict(frames(bundle)))
        return
    with np.load(sys.argv[3]) as pictures:
        np.savez(sys.argv[4], **answer(bundle, dict(pictures)))


if __name__ == "__main__":
    main()
