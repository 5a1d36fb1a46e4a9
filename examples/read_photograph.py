"""Read photographs with a bundle, print what it answers, and save the picture with its overlay.

python examples/read_photograph.py eye.medtex photo.jpg [more.jpg ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

import medtex_edge


def main(bundle_path: str, *photographs: str) -> None:
    with medtex_edge.open_bundle(bundle_path) as bundle:
        for photograph in photographs:
            reading = bundle.read(photograph)
            if reading.probabilities is None:  # blurred, too dark, no fundus, ...
                print(f"{photograph}: {reading.verdict.value}: {reading.detail or reading.reason}")
                continue
            print(f"{photograph}: {reading.verdict.value}, {reading.label}")
            for name, probability in reading.probabilities.items():
                print(f"  {name:<12} {probability:.3f}")
            target = Path(photograph).with_suffix(".overlay.png")
            cv2.imwrite(str(target), reading.overlay()[..., ::-1])  # RGB -> BGR, as OpenCV writes
            print(f"  overlay: {target}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except medtex_edge.MedtexError as error:
        sys.exit(f"{error.message}\n{error.hint}")
