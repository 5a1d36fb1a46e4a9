"""From a run folder to one verified bundle file, or a refusal that says why."""
