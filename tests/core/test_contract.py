"""The contract checks every field, wherever it comes from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from bundle_kit import CONTRACT, POINT, contract
from hypothesis import given, settings
from hypothesis import strategies as st

from medtex_edge.contract import Contract, OperatingPoint
from medtex_edge.errors import BundleError

JSON = json.loads(json.dumps(CONTRACT.to_json()))


def test_a_contract_survives_json() -> None:
    assert Contract.from_json(JSON) == CONTRACT


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Contract)])
def test_every_field_is_needed(name: str) -> None:
    with pytest.raises(BundleError, match=name):
        Contract.from_json({key: value for key, value in JSON.items() if key != name})


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(OperatingPoint)])
def test_every_field_of_the_operating_point_is_needed(name: str) -> None:
    point = {key: value for key, value in JSON["operating_point"].items() if key != name}
    with pytest.raises(BundleError, match=name):
        Contract.from_json({**JSON, "operating_point": point})


def test_unknown_fields_are_errors_that_list_the_known() -> None:
    with pytest.raises(BundleError, match=r"only .*classes.*, got 'tempreature'"):
        Contract.from_json({**JSON, "tempreature": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", 2),
        ("schema", None),
        ("geometry", "stretch/1"),
        ("name", ""),
        ("name", "x" * 201),
        ("name", "bell \x07"),
        ("name", 7),
        ("created", "\x1b[31mred"),
        ("classes", ["only"]),
        ("classes", ["a", "a"]),
        ("classes", ["a", ""]),
        ("classes", ["a", None]),
        ("classes", ["a", ["b"]]),
        ("classes", "abc"),
        ("classes", [str(i) for i in range(1001)]),
        ("height", 0),
        ("height", -1),
        ("height", 4097),
        ("height", 8.0),
        ("height", "8"),
        ("height", True),
        ("width", None),
        ("saliency_height", 9),
        ("saliency_width", 0),
        ("referable", []),
        ("referable", [0, 1, 2]),
        ("referable", [3]),
        ("referable", [-1]),
        ("referable", [1, 1]),
        ("referable", [1.0]),
        ("referable", [True]),
        ("referable", 1),
        ("ordered", 1),
        ("ordered", None),
        ("temperature", 0),
        ("temperature", -1.5),
        ("temperature", 1000),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "1"),
        ("operating_point", None),
        ("operating_point", []),
    ],
)
def test_a_field_out_of_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(BundleError) as caught:
        Contract.from_json({**JSON, name: value})
    assert name in caught.value.message
    assert "expected" in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 1.1),
        ("threshold", float("nan")),
        ("threshold", "0.5"),
        ("target_sensitivity", -0.1),
        ("sensitivity", True),
        ("specificity", None),
        ("sensitivity_interval", [0.5]),
        ("sensitivity_interval", [0.9, 0.1]),
        ("specificity_interval", [0.1, 2]),
        ("specificity_interval", "ab"),
        ("positives", -1),
        ("negatives", 1.5),
    ],
)
def test_a_field_of_the_operating_point_out_of_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(BundleError, match=name):
        Contract.from_json({**JSON, "operating_point": {**JSON["operating_point"], name: value}})


@pytest.mark.parametrize("value", [None, 1, "text", [], [JSON]])
def test_what_is_no_object_is_no_contract(value: Any) -> None:
    with pytest.raises(BundleError, match="contract: expected an object"):
        Contract.from_json(value)


def test_a_contract_built_in_python_passes_the_same_checks() -> None:
    with pytest.raises(BundleError, match="height"):
        contract(height=0)
    with pytest.raises(BundleError, match="threshold"):
        dataclasses.replace(POINT, threshold=2.0)
    with pytest.raises(BundleError, match="operating_point"):
        contract(operating_point=0.5)


def test_the_referable_probability_adds_up_the_referable_classes() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [1, 0, 0]], np.float32)
    np.testing.assert_allclose(CONTRACT.referable_probability(probabilities), [0.5, 0.0])
    assert CONTRACT.referable_probability(probabilities[0]).shape == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=5), value, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(JSON)), value=VALUES)
def test_any_value_in_any_field_is_accepted_or_one_error(name: str, value: Any) -> None:
    try:
        accepted = Contract.from_json({**JSON, name: value})
    except BundleError as error:
        assert "\n" not in error.message  # noqa: PT017
    else:
        assert Contract.from_json(json.loads(json.dumps(accepted.to_json()))) == accepted
