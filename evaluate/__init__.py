"""Measures a run or a bundle against its teacher, other attribution methods and controls; ends with a report."""

from medtex_edge.stage import make_callable

make_callable(__name__)
