"""The picture beside a refusal: the worst photographs, what the trained model says of them, and what the graph says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract
from medtex_edge.export.gate.parity import Answers, Floats, Images
from medtex_edge.files import atomic_path, storage

ROWS = 4
_SIDE = 224  # pixels of a panel
_LINE = 20
_GAP = 8
_TITLES = ("photograph", "map, trained model", "map, graph", "difference")
Picture = npt.NDArray[np.uint8]


def show(path: Path, images: Images, keys: Sequence[str], expected: Answers, came: Answers, contract: Contract) -> None:
    """Write a PNG of the `ROWS` photographs with the largest differences. Raises `StorageError`.

    Maps and differences go from 0 (dark) to 1 on one scale, so that rows can be compared.
    """
    off = [np.nan_to_num(np.abs(b - a), nan=1.0, posinf=1.0) for a, b in zip(expected, came, strict=True)]
    order = np.argsort(-off[0].max(axis=1) - off[1].mean(axis=(1, 2)), kind="stable")[:ROWS]
    rows = [_titles()]
    for index in order:
        maps = [expected[1][index], came[1][index], off[1][index]]
        panels = [cv2.cvtColor(cv2.resize(images[index], (_SIDE, _SIDE)), cv2.COLOR_RGB2BGR), *map(_colour, maps)]
        rows.append(_words(f"{keys[index]}: {_answer(expected[0][index], contract)} by the trained model, "
                           f"{_answer(came[0][index], contract)} by the graph"))  # fmt: skip
        rows.append(np.hstack([_framed(panel) for panel in panels]))
    with atomic_path(path) as temporary, storage(path):
        cv2.imwrite(str(temporary), np.vstack(rows))


def _answer(probabilities: Floats, contract: Contract) -> str:
    if not np.isfinite(probabilities).all():
        return "no numbers"
    label = int(probabilities.argmax())
    referable = float(contract.referable_probability(probabilities))
    return f"{contract.classes[label]} {probabilities[label]:.3f} (referable {referable:.3f})"


def _colour(values: Floats) -> Picture:
    grey = np.rint(255 * np.clip(np.nan_to_num(values, nan=1.0), 0, 1)).astype(np.uint8)
    scaled = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), np.uint8)


def _framed(panel: npt.NDArray[np.generic]) -> Picture:
    framed = np.full((_SIDE + _GAP, _SIDE + _GAP, 3), 255, np.uint8)
    framed[:_SIDE, :_SIDE] = panel
    return framed


def _titles() -> Picture:
    strips = []
    for title in _TITLES:
        strip = np.full((_LINE, _SIDE + _GAP, 3), 255, np.uint8)
        strips.append(_written(strip, title))
    return np.hstack(strips)


def _words(text: str) -> Picture:
    return _written(np.full((_LINE, len(_TITLES) * (_SIDE + _GAP), 3), 255, np.uint8), text)


def _written(strip: Picture, text: str) -> Picture:
    # OpenCV's letters are ASCII alone.
    plain = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(strip, plain, (4, _LINE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
