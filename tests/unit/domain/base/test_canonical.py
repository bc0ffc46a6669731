"""Canonical JSON (RFC 8785): one text for a value, whatever its order."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.json_writing import canonical_json
from tests.support.odd import plain_texts, plain_values

texts, json_values = plain_texts, plain_values


#: The digits of a float of 2^53 or more may be those of another integer: its test is of its own.
floats = st.floats(-(2**53) + 1, 2**53 - 1)

small = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | floats | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(small)
def test_canonical_json_means_the_same_value_and_does_not_depend_on_order(value: Any) -> None:
    canonical = canonical_bytes(value)
    assert canonical_bytes(json.loads(canonical)) == canonical
    assert json.loads(canonical) == value

    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(list(item))}
        return [turned(element) for element in item] if isinstance(item, list) else item

    assert canonical_bytes(turned(value)) == canonical
    assert canonical_json(turned(value)) == canonical_json(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e20)
@example(-123456789012345680000.0)
@example(1e21)
@example(2.0**53)
def test_what_is_read_from_a_canonical_form_has_it_again(number: float) -> None:
    canonical = canonical_bytes({"a": [number, True]})
    assert canonical_bytes(json.loads(canonical)) == canonical
    assert float(json.loads(canonical)["a"][0]) == number


@pytest.mark.parametrize("number", [2**53 + 1, 10**20 + 1, 123456789012345683968, 10**21, 10**400, -(10**30)])
def test_integers_that_are_no_doubles_canonical_form_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="exceeds safe integer domain"):
        canonical_bytes([number])


def test_canonical_json_matches_the_examples_of_the_standard() -> None:
    """RFC 8785, 3.2.2 and 3.2.3."""
    value = json.loads(
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r'"string": "\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/","literals": [null, true, false]}'
    )
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_bytes(value).decode() == expected
    keys = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "😀": 5, "\x80": 6, "ö": 7}
    assert [json.loads(canonical_bytes(keys))[key] for key in json.loads(canonical_bytes(keys))] == [
        2,
        4,
        6,
        7,
        1,
        5,
        3,
    ]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 2**53 + 1, -(2**53) - 1, "\ud800", {1: 2}, object(), {"a": {1, 2}}]
)
def test_a_value_that_canonical_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical_bytes(value)
