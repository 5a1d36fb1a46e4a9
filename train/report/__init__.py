"""The report of a run: its page, its wording and its plots."""
