"""The native module, built from runtime/native. Arrays are uint8 of any strides; nothing is copied.

Shapes and ranges are checked by its only callers, `medtex_edge.image` and, in `medtex_edge.runtime`, `pixels` and
`quality`; the meaning of the arguments and of the numbers that come back is that of the namesakes in
`medtex_edge.image_numpy`, `medtex_edge.runtime.overlay_numpy` and `medtex_edge.runtime.quality_numpy`. The GIL is
released meanwhile.
"""

import numpy as np
import numpy.typing as npt

def look(image: npt.NDArray[np.uint8], layout: int) -> tuple[int, int, int, int, int, int, int]: ...
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
def glance(frame: npt.NDArray[np.uint8], layout: int) -> tuple[int, int, int]: ...
def facts(picture: npt.NDArray[np.uint8], structure: npt.NDArray[np.float32]) -> tuple[int, ...]: ...
def set_threads(threads: int) -> int: ...
