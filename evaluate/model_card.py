"""model_card.md of an evaluation: the card of training with the summary and the warnings of an evaluation."""

from __future__ import annotations

from pathlib import Path

from medtex_edge.evaluate.report.summary import summary
from medtex_edge.evaluate.report.warnings import warnings
from medtex_edge.files import atomic_write
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.report.model_card import model_card


def write_evaluation_card(evaluation: JsonObject, out: Path) -> Path:
    """Write the model card of an evaluation (evaluation.json) to `out` and return that. Raises `StorageError`."""
    with atomic_write(out, "w") as file:
        file.write(evaluation_card(evaluation))
    return out


def evaluation_card(evaluation: JsonObject) -> str:
    """The model card of an evaluation as Markdown; what was not measured is reported as missing."""
    return model_card(evaluation, summary=summary(evaluation), warnings=warnings(evaluation))
