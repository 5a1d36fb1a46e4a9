"""Everything that knows PyTorch: data, teachers, the distillation, its measures; ends with a run folder."""

from medtex_edge.stage import make_callable

make_callable(__name__)
