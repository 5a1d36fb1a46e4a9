"""From a run folder to one verified bundle file, or a refusal with its reason."""
