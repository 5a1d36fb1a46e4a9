"""Opens the backend that hands over to an engine, and waits for what its thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import numpy.typing as npt

from medtex_edge.bundle import Bundle
from medtex_edge.runtime.backend import Backend, handover

IMAGE = np.ascontiguousarray(bundles.disc(bundles.SIZE, lesion=True)[None, ..., ::-1])


def answer(backend: Backend) -> npt.NDArray[np.float32]:
    return backend.infer(IMAGE).probabilities


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def builds() -> list[int]:
    path = Path("starts")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def opened(bundle: Bundle, name: str = "auto", **options: Any) -> tuple[Backend, list[str]]:
    messages: list[str] = []
    return handover.open(bundle, name, threads=1, on_message=messages.append, **options), messages
