"""The sheet that every picture of a run is drawn on: colours, size of letters, and how it becomes a file.

Drawn with matplotlib's Agg canvas and no global state, so that a trainer on a server can call it from any
thread. Colours are Okabe and Ito's (jfly.uni-koeln.de/color), which people with any colour vision can distinguish.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medtex_edge.files import atomic_path

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6f76"
PINK, SKY, YELLOW = "#CC79A7", "#56B4E9", "#B8A200"
LINES = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)  # in the order of use
DPI = 130


def new_figure(width: float, height: float) -> Figure:
    """An empty sheet of so many inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def name_axes(axes: Axes, title: str) -> None:
    """A title at the left."""
    # A class or a file may be called "$x": that is a name, not mathematics.
    axes.set_title(title, loc="left", fontsize=9, parse_math=False)


def note(axes: Axes, text: str) -> None:
    """A text in the place of a picture that cannot be drawn."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes, wrap=True)


def legend(axes: Axes, place: str = "best") -> None:
    """The legend, where there is anything to distinguish."""
    if axes.get_legend_handles_labels()[0]:
        box = axes.legend(loc=place, frameon=False, fontsize=8)
        for text in box.get_texts():
            text.set_parse_math(False)


def save(figure: Figure, out: Path) -> None:
    """Write the sheet as PNG, whole or not at all. Raises `StorageError`."""
    for axes in figure.axes:
        axes.tick_params(labelsize=8, color=GREY)
        for item in (axes.xaxis.label, axes.yaxis.label):
            item.set_fontsize(8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    with atomic_path(out) as temporary:
        # Without the version in its metadata the same run draws the same bytes.
        figure.savefig(temporary, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.08)
