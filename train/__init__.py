"""Everything that knows PyTorch: data, teachers, the distillation, its measures; ends with a run folder."""
