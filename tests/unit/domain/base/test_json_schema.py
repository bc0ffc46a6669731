"""What fits a JSON Schema, which schemas are refused, and that neither can hold a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_schema import MAX_BYTES, MAX_PARTS, check_schema, mismatch, within

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
        {"$schema": "http://json-schema.org/draft-03/schema#", "properties": {"n": {"required": True}}},
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
    third = {"$schema": "http://json-schema.org/draft-03/schema#", "properties": {"n": {"required": True}}}
    for schema in (third, {"enum": 5}, {"$ref": "https://example.com/x.json"}, {"$ref": "#"}, {"pattern": "("}):
        for value in (5, {}):
            assert mismatch(value, schema).startswith("cannot be checked")


_PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_NUMBER_OR_TREE = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]}
#: Schemas with references of every kind, each with a value that fits and one that does not.
REFERRING: list[tuple[dict[str, Any], Any, Any]] = [
    ({"$defs": {"p": _PERSON}, "$ref": "#/$defs/p"}, {"name": "a"}, {"name": 1}),
    ({"definitions": {"p": _PERSON}, "type": "array", "items": {"$ref": "#/definitions/p"}}, [{"name": "a"}], [{}]),
    ({"$defs": {"p": {"$ref": "#/$defs/q"}, "q": _PERSON}, "properties": {"x": {"$ref": "#/$defs/p"}}},
     {"x": {"name": ""}}, {"x": 1}),
    (_NUMBER_OR_TREE, [1, [2, []]], [1, ["x"]]),
    ({"$defs": {"t": {"properties": {"left": {"$ref": "#/$defs/t"}, "top": {"$ref": "#"}}}},
      "type": "object", "$ref": "#/$defs/t"},
     {"left": {"top": {}}}, {"left": {"top": 1}}),
    ({"properties": {"a": _PERSON, "b": {"$ref": "#/properties/a"}}}, {"b": {"name": "a"}}, {"b": {"name": 1}}),
    ({"properties": {"a": {"$anchor": "here", "type": "integer"}, "b": {"$ref": "#here"}}}, {"b": 1}, {"b": "x"}),
    ({"properties": {"$ref": {"type": "string"}, "$defs": {"type": "integer"}}}, {"$ref": "#", "$defs": 1}, {"$ref": 1}),
    ({"enum": [{"$ref": "#/properties/x"}, {"$defs": {}}]}, {"$ref": "#/properties/x"},
     {"$ref": "#/properties/answer/properties/x"}),
    ({"$id": "https://a.example/s", "$defs": {"a b": {"type": "integer"}}, "items": {"$ref": "#/%24defs/a%20b"}}, [1], ["x"]),
    ({"$schema": "http://json-schema.org/draft-04/schema#", "definitions": {"p": {"minimum": 0, "exclusiveMinimum": True}},
      "items": {"$ref": "#/definitions/p"}}, [1], [0]),
    ({"properties": {"a": {"$defs": {"p": _PERSON}}, "b": {"$ref": "#/properties/a/$defs/p"}}}, {"b": {"name": ""}}, {"b": {}}),
]  # fmt: skip
#: A place in a larger document: what is around a schema there, and around a value.
PLACES: dict[str, tuple[Callable[[Any], dict[str, Any]], Callable[[Any], Any]]] = {
    "/properties/answer": (lambda inner: {"properties": {"answer": inner}}, lambda value: {"answer": value}),
    "/properties/x~1y": (lambda inner: {"properties": {"x/y": inner}}, lambda value: {"x/y": value}),
    "/properties/a/items": (lambda inner: {"properties": {"a": {"items": inner}}}, lambda value: {"a": [value]}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("schema", "fits", "does_not"), REFERRING)
def test_a_schema_within_another_means_the_same(schema: dict[str, Any], fits: Any, does_not: Any, place: str) -> None:
    inner, of_the_whole = within(schema, place)
    around_schema, around_value = PLACES[place]
    whole = around_schema(inner) | of_the_whole
    check_schema(whole, "schema")
    assert [mismatch(value, schema) == "" for value in (fits, does_not)] == [True, False]
    assert [mismatch(around_value(value), whole) == "" for value in (fits, does_not)] == [True, False]


def test_a_schema_without_references_is_put_as_it_is() -> None:
    assert within({"type": "object", "default": {"$ref": "#"}}, "/x") == (
        {"type": "object", "default": {"$ref": "#"}},
        {},
    )
