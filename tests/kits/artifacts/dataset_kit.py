"""Loading small datasets in tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medtex_edge.errors import DataError
from medtex_edge.train.data.dataset import DataOptions, Dataset, load_dataset

GRADES = ["0", "0", "0", "1", "1", "1", "2", "2", "2"]


def load(data: Path, seed: int = 0, **options: object) -> Dataset:
    if "accept" in options:
        options["accept"] = frozenset(str(options["accept"]).split())
    return load_dataset(data, options=DataOptions(**options), seed=seed)  # type: ignore[arg-type]


def splits(dataset: Dataset) -> dict[str, int]:
    return dict(Counter(sample.split for sample in dataset.samples))


def error_of(data: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        load(data, **options)
    return caught.value
