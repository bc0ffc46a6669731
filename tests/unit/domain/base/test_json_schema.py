"""What fits a JSON Schema, which schemas are refused, and that neither can hold a process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_schema import MAX_BYTES, MAX_PARTS, check_schema, mismatch

INTEGER = {"type": "integer"}
TREE = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}
#: 2^30 ways to check one value.
DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/a0",
    "$defs": {**{f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}, "a30": INTEGER},
}


@given(st.integers(-(10**15), 10**15))
def test_a_float_without_a_fraction_is_an_integer(number: int) -> None:
    assert mismatch(float(number), INTEGER) == ""
    assert mismatch([float(number), number], {"type": "array", "items": INTEGER}) == ""
    assert mismatch({"n": number + 0.5}, {"properties": {"n": {"type": ["integer", "null"]}}}) != ""


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (-0.0, INTEGER),
        (5.0, {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}),
        (None, {"type": ["integer", "null"]}),
        (1.0, {"enum": [1]}),
        (0.3, {"multipleOf": 0.1}),
        ([1, True, "1"], {"uniqueItems": True}),
        ({"child": {"child": {}}}, TREE),
        ("a-b", {"pattern": "^[a-z]+(-[a-z]+)*$"}),
        (
            {"x": 1},
            {"$id": "https://example.com/x", "$defs": {"n": INTEGER}, "properties": {"x": {"$ref": "#/$defs/n"}}},
        ),
        ("no format is checked", {"format": "date"}),
    ],
)
def test_a_value_fits(value: Any, schema: dict[str, Any]) -> None:
    check_schema(schema, "schema")
    assert mismatch(value, schema) == ""


@pytest.mark.parametrize(
    ("value", "schema", "why"),
    [
        (5.5, INTEGER, "must be of type integer"),
        (True, INTEGER, "must be of type integer"),
        ("x", {"type": ["integer", "null"]}, "must be of type integer or null"),
        ({"n": "x"}, {"properties": {"n": INTEGER}}, '"n" must be of type integer'),
        ({}, {"required": ["n"]}, 'needs "n"'),
        (True, {"enum": [1]}, "must be one of [1]"),
        (True, {"const": 1}, 'must satisfy "const": 1'),
        (5, {"anyOf": [{"type": "string"}, {"type": "null"}]}, 'must satisfy "anyOf"'),
        ({"n": 1}, {"additionalProperties": False}, '"n" must satisfy "additionalProperties": false'),
        ([1, "x"], {"items": INTEGER}, "item 2 must be of type integer"),
        (4, {"minimum": 5}, 'must satisfy "minimum": 5'),
        ("abc", {"maxLength": 2}, 'must satisfy "maxLength": 2'),
        ("abc", {"pattern": "^b"}, 'must satisfy "pattern": "^b"'),
        ({"x1": "a"}, {"patternProperties": {"^x": INTEGER}}, '"x1" must be of type integer'),
        ([], {"minItems": 1}, 'must satisfy "minItems": 1'),
        ([1, 1.0], {"uniqueItems": True}, 'must satisfy "uniqueItems": true'),
        ({"child": {"child": 5}}, TREE, '"child" "child" must be of type object'),
        ("x", {"$ref": "#/$defs/n", "$defs": {"n": INTEGER}}, "must be of type integer"),
    ],
)
def test_a_value_that_does_not_fit_says_why(value: Any, schema: dict[str, Any], why: str) -> None:
    check_schema(schema, "schema")
    assert mismatch(value, schema).startswith(why)


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": 5},
        {"type": "intt"},
        {"type": 5},
        {"properties": [1]},
        {"required": "n"},
        {"minimum": "5"},
        {"properties": {"n": {"maxLength": -1}}},
        {"$schema": "https://example.com/mine"},
        {"$ref": "https://example.com/x.json"},
        {"properties": {"n": {"$ref": "other.json#/n"}}},
        {"items": {"$ref": "file:///etc/passwd"}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#"}}}},
        {"properties": {"n": {"$id": "https://example.com/n", "$ref": "#"}}},
        {"pattern": "("},
        {"pattern": "(?=a)b"},
        {"patternProperties": {"(a)\\1": {}}},
        {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
        {"properties": {f"n{n}": {"pattern": f"a{{{3000 + n}}}"} for n in range(20)}},
        {"properties": {f"n{n}": {} for n in range(MAX_PARTS + 1)}},
        {"description": "x" * MAX_BYTES},
        {"minimum": float("inf")},
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_with_a_sentence(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"(?s)^payload\.schema .*\.$"):
        check_schema(schema, "payload.schema")


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("x", DOUBLING),
        ([{}] * 300_000, {"uniqueItems": True}),
        (["a" * 200 + "!"] * 10_000, {"items": {"pattern": "^(a+)+$"}}),
        ([1] * 300_000, {"items": {"enum": list(range(2, 99))}, "minItems": 1}),
    ],
)
def test_a_check_that_would_take_for_ever_is_given_up(value: Any, schema: dict[str, Any]) -> None:
    check_schema(schema, "schema")
    assert mismatch(value, schema) != ""


def test_a_wrong_schema_that_was_stored_earlier_fits_nothing_and_raises_nothing() -> None:
    for schema in ({"enum": 5}, {"$ref": "https://example.com/x.json"}, {"$ref": "#"}, {"pattern": "("}):
        assert mismatch(5, schema).startswith("cannot be checked")
