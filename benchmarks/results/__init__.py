"""The targets of docs/evidence/results.md: trainings, evaluations and the page."""
