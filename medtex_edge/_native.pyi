"""The native module, built from runtime/native. Arrays are uint8 of any strides; nothing is copied.

Its callers check shapes and ranges: `medtex_edge.image.geometry` and, in `medtex_edge.runtime`, `display.pixels` and
`quality.gate`. Arguments and results are those of their namesakes in `medtex_edge.image.reference`,
`medtex_edge.runtime.display.reference` and `medtex_edge.runtime.quality.reference`. The GIL is released meanwhile.
"""

import numpy as np
import numpy.typing as npt

def detect_fov(image: npt.NDArray[np.uint8], layout: int) -> tuple[int, int, int, int, int, int, int]: ...
def crop_resize(
    image: npt.NDArray[np.uint8], left: int, top: int, side: int, layout: int, out: npt.NDArray[np.uint8]
) -> None: ...
def draw_saliency(
    frame: npt.NDArray[np.uint8],
    saliency: npt.NDArray[np.float32],
    left: int,
    top: int,
    side: int,
    table: npt.NDArray[np.uint8],
) -> None: ...
def precheck_frame(frame: npt.NDArray[np.uint8], layout: int) -> tuple[int, int, int]: ...
def quality_metrics(picture: npt.NDArray[np.uint8], structure: npt.NDArray[np.float32]) -> tuple[int, ...]: ...
def set_threads(threads: int) -> int: ...
