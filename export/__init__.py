"""From a run folder to one verified bundle file, or a refusal with its reason."""

from medtex_edge.stage import make_callable

make_callable(__name__)
