"""From a run folder to one verified bundle file, or a refusal that says why."""

from medtex_edge.stage import make_callable

make_callable(__name__)
