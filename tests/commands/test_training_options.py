"""The command that a training prints as the next one reads the same photographs with the same meaning."""

from __future__ import annotations

import shlex
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medtex_edge.commands.train import train
from medtex_edge.commands.training_options import _DATA_DEFAULTS, data_arguments

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1).filter(lambda text: text[0] != "-")
NAMES = ("image_column", "label_column", "split_column", "patient_column", "mask_column", "image_folder", "referable")


@given(
    st.fixed_dictionaries({name: st.just(_DATA_DEFAULTS[name]) | TEXT for name in NAMES}),
    TEXT.map(lambda text: f"my photos/{text}"),
    st.lists(TEXT, max_size=2).map(tuple),
    st.sampled_from([0.2, 0.25, 0.5]),
    st.integers(0, 9),
)
def test_the_arguments_of_the_next_command_come_back_as_they_were(
    texts: dict[str, str], data: str, accept: tuple[str, ...], val_fraction: float, seed: int
) -> None:
    shared: dict[str, Any] = {**texts, "data": data, "accept": accept, "val_fraction": val_fraction, "seed": seed}
    parsed = train.make_context("train", shlex.split(data_arguments(shared))).params
    assert {name: parsed[name] for name in shared if name != "data"} == {
        name: value for name, value in shared.items() if name != "data"
    }
    assert str(parsed["data"]) == data


def test_defaults_are_left_out() -> None:
    assert data_arguments({**_DATA_DEFAULTS, "data": "photos"}) == " --data photos"
    assert data_arguments({**_DATA_DEFAULTS, "data": None}) == ""
