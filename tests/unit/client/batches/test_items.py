"""The items of a batch: their keys, and the lines that are none."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.client.batches.items import BadLine, Item, read_items, schema


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _one(**fields: Any) -> Item:
    (item,) = read_items([_line(**fields)])
    assert isinstance(item, Item), item
    return item


def test_the_key_of_an_item_follows_only_what_is_asked() -> None:
    key = _one(content="q", config={"a": 1, "b": [2]}).key
    assert _one(content="q", config={"b": [2], "a": 1}, id="mine").key == key
    assert _one(question="q", config={"a": 1, "b": [2]}, priority="normal").key == key
    assert _one(content="q", config={"a": 1, "b": [2]}, required_capabilities=["deliberation"]).key == key
    (later,) = read_items([b"\n", _line(content="q", config={"a": 1, "b": [2]})])
    assert (later.key, later.line) == (key, 2)
    (anew,) = read_items([_line(content="q", config={"a": 1, "b": [2]})], run="again")
    others = [_one(content="Q"), _one(content="q", config={"a": 2}), _one(content="q", timeout_seconds=5), anew]
    assert len({key, *(other.key for other in others)}) == 5


BAD = [
    (b"{", "not JSON"),
    (b'"text"', "it is no JSON object"),
    (b"{}", "give the question"),
    (b'{"content": "a", "question": "b"}', "give the question"),
    (b'{"content": ""}', "at least 1"),
    (b'{"content": "q", "contnet": "q"}', "contnet"),
    (b'{"content": "q", "timeout_seconds": 0}', "timeout_seconds"),
    (b'{"content": "q", "config": []}', "config"),
    (b'{"content": "q", "decision_type": "gauntlet"}', "decision_type"),
    (b'{"content": "q", "config": {"a": NaN}}', "NaN"),
    (b'{"content": "q", "config": {"a": 99999999999999999999}}', "exceeds"),
    (b'{"content": "\\ud800"}', "cannot be stored"),
    (b'\xff{"content": "q"}', "no text in UTF-8"),
    (b'{"content": "q", "id": 7}', "id"),
    (b'{"content": "q", "priorty": "low"}', "priorty is not a field of an item; did you mean priority?"),
    (b'{"content": "q", "zzz": "q"}', "zzz is not a field of an item; leave it out"),
    (b'{"content": ' + b"9" * 5000 + b"}", "it holds a number of more than 4300 digits"),
    (b"[" * 100_000, "it is nested deeper than 64 levels"),
]


@pytest.mark.parametrize(("line", "problem"), BAD)
def test_a_line_that_is_no_item_is_named_by_number_and_reason(line: bytes, problem: str) -> None:
    found = list(read_items([_line(content="good"), line + b"\n", _line(content="good")]))
    bad = found[1]
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert problem in bad.problem
    assert [type(item) for item in found] == [Item, BadLine, Item]


@given(line=st.binary(max_size=60).filter(lambda line: b"\n" not in line))
def test_no_line_stops_the_reading(line: bytes) -> None:
    assert len(list(read_items([line, _line(content="q")]))) == (2 if line.strip() else 1)


@pytest.mark.parametrize("line", [line for line, _ in BAD[1:9] if b"timeout" not in line] + [_line(content="q")])
def test_the_published_schema_agrees(line: bytes) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    fits = jsonschema.Draft202012Validator(schema()).is_valid(json.loads(line))
    (read,) = read_items([line])
    assert fits == isinstance(read, Item)
