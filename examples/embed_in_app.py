"""Use a bundle in an application that has frames of its own: one reader thread, and always the newest frame.

    python examples/embed_in_app.py eye.medtex

The frames are drawn here. In your application they come from a grabber or a toolkit, as (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import medtex_edge

Frame = npt.NDArray[np.uint8]


def frames(count: int = 20) -> Iterator[Frame]:
    """A lit, textured disc on black, with a red spot that grows."""
    y, x = np.mgrid[:240, :320]
    disc = (x - 160) ** 2 + (y - 120) ** 2 < 112**2
    texture = np.random.default_rng(0).normal(110, 25, (240, 320))
    for index in range(count):
        picture = np.where(disc, texture, 2)[..., None].repeat(3, axis=2)
        spot = (x - 185) ** 2 + (y - 120) ** 2 < (2.5 * index) ** 2
        picture[spot] *= (1.7, 0.3, 0.3)
        yield picture.clip(0, 255).astype(np.uint8)
        time.sleep(0.02)


def read(bundle: medtex_edge.OpenBundle, newest: queue.Queue[Frame | None]) -> None:
    """The reader thread's body."""
    while (frame := newest.get()) is not None:
        reading = bundle.read(frame, name="my camera")
        answer = reading.label or (reading.reason.value if reading.reason else "")
        print(f"{reading.verdict.value}: {answer}  ({sum(reading.latency_ms.values()):.1f} ms)", flush=True)


def main(bundle_path: str) -> None:
    newest: queue.Queue[Frame | None] = queue.Queue(maxsize=1)
    with medtex_edge.open_bundle(bundle_path, threads=1) as bundle:
        reader = threading.Thread(target=read, args=(bundle, newest))
        reader.start()
        for frame in frames():  # the application's own loop is never held up by an inference
            if not newest.full():
                newest.put(frame)
        newest.put(None)
        reader.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
