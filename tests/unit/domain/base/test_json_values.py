"""Ids, JSON from outside, canonical JSON and digests: small values that everything else rests on."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import ROUTE_WORDS, check_id, sortable_id
from cluster.domain.base.json_values import (
    MAX_DEPTH,
    MAX_DIGITS,
    NotJson,
    check_json,
    check_text,
    parse_json,
    read_json,
    shown_text,
    write_json,
)
from cluster.domain.base.log import canonical_json, first_digest, row_digest
from cluster.domain.tasks.task import LeaseToken
from tests.support.odd import no_json, odd_json, odd_texts, odd_values, plain_texts, plain_values

SAFE = "ABCXYZabcxyz0189"
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", fullmatch=True).filter(lambda text: text not in ROUTE_WORDS)
texts, json_values = plain_texts, plain_values


@given(ids)
def test_every_id_of_the_set_is_accepted_and_is_one_path_segment(text: str) -> None:
    assert check_id(text, "id") == text
    assert not set(text) & set("/?#% ")


@given(st.text(max_size=130))
def test_whatever_is_not_of_the_set_is_refused_with_a_sentence(text: str) -> None:
    safe = 0 < len(text) <= 128 and text.isascii() and text[0].isalnum()
    if safe and all(char.isalnum() or char in "._:@-" for char in text) and text not in ROUTE_WORDS:
        return
    with pytest.raises(InvalidRequest, match=r"^agent_id must .*\.$"):
        check_id(text, "agent_id")


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], "a\n", "", "a" * 129, *sorted(ROUTE_WORDS)])
def test_what_only_looks_like_an_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        check_id(value, "id")


@given(
    early=st.floats(0, 2**40), later=st.floats(0.001, 10**9), first=st.binary(min_size=10, max_size=10),
    second=st.binary(min_size=10, max_size=10),
)  # fmt: skip
def test_made_ids_sort_by_their_time_and_are_ids(early: float, later: float, first: bytes, second: bytes) -> None:
    one, two = sortable_id("task", early, first), sortable_id("task", early + later, second)
    assert check_id(one, "id") == one
    assert len(one) == len("task_") + 26
    if int(early * 1000) < int((early + later) * 1000):
        assert one < two
    assert (sortable_id("task", early, first) == sortable_id("task", early, second)) == (first == second)


@given(json_values)
def test_json_that_can_be_kept_is_accepted(value: Any) -> None:
    check_json(value, "payload")


@given(odd_values)
def test_what_a_store_cannot_hold_is_found_wherever_it_is(value: Any) -> None:
    for check in (check_json, write_json):
        with pytest.raises(InvalidRequest, match=r"^payload .*\.$") as refused:
            check(value, "payload")
        assert refused.value.code == "invalid_json"
        assert len(refused.value.message) < 100, "what was sent is not repeated"


@given(json_values)
def test_what_is_written_is_read_back_as_it_was(value: Any) -> None:
    text = write_json(value, "payload")
    assert read_json(text, "payload") == read_json(text.encode(), "payload") == value


@given(odd_json)
def test_a_text_that_only_some_readers_read_is_refused(text: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(InvalidRequest, match=r"^payload .*\.$"):
            read_json(content, "payload")


@given(no_json)
def test_a_text_that_nobody_reads_is_no_json(content: bytes) -> None:
    with pytest.raises(NotJson, match=r"^payload .*\.$"):
        parse_json(content, "payload")


@given(st.integers(MAX_DIGITS + 1, 20_000), st.sampled_from(["%s", "-%s", '{"a": [1, %s]}']))
def test_a_number_of_too_many_digits_is_json_and_is_called_so(digits: int, text: str) -> None:
    for read in (parse_json, read_json):
        for content in (text % ("9" * digits), (text % ("9" * digits)).encode()):
            with pytest.raises(InvalidRequest) as refused:
                read(content, "payload")
            assert refused.value.message == f"payload holds a number of more than {MAX_DIGITS} digits."
            assert not isinstance(refused.value, NotJson)


def test_a_value_of_python_is_kept_if_it_can_be_written_as_json() -> None:
    value = {"a": (1, 2.5), 3: None, None: True, False: [()]}
    assert write_json(value, "result") == '{"a": [1, 2.5], "3": null, "null": true, "false": [[]]}'
    longest = 10**MAX_DIGITS - 1
    assert read_json(write_json([longest, -longest], "result"), "result") == [longest, -longest]
    cycle: list[Any] = []
    cycle.append(cycle)
    for wrong in ({1, 2}, b"bytes", object(), {(1, 2): 3}, {math.nan: 1}, 1j, cycle, {10**MAX_DIGITS: 1}):
        with pytest.raises(InvalidRequest, match=r"^result .*\.$"):
            write_json([wrong], "result")


@given(plain_texts | odd_texts, st.none() | st.integers(0, 30))
def test_the_beginning_of_any_text_can_be_shown(text: str, limit: int | None) -> None:
    shown = shown_text(text, limit)
    check_text(shown, "text")
    assert len(shown) <= len(text[:limit])
    if "\x00" not in text and text.isprintable():
        assert shown == text[:limit]


def test_depth_is_bounded_exactly_and_without_recursion() -> None:
    check_json(json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH), "payload")
    with pytest.raises(InvalidRequest, match="64 levels"):
        check_json(json.loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)), "payload")
    check_json(json.loads("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1)), "payload")
    for text in ("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, '{"a":' * MAX_DEPTH + "{}" + "}" * MAX_DEPTH):
        with pytest.raises(InvalidRequest, match="64 levels"):  # what is inside is a level too
            check_json(json.loads(text), "payload")
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        check_json(deep, "payload")
    while isinstance(deep, list):  # taken apart by hand: the interpreter would recurse
        (deep,) = deep


#: A float of 2^53 or more is written as digits that read back as an integer, which JCS does not carry.
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
        return [turned(one) for one in item] if isinstance(item, list) else item

    assert canonical_bytes(turned(value)) == canonical
    assert canonical_json(turned(value)) == canonical_json(value)


def test_canonical_json_of_the_standard() -> None:
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


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, -(2**53), "\ud800", {1: 2}, object(), {"a": {1, 2}}])
def test_what_canonical_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical_bytes(value)


columns = st.tuples(st.integers(0, 2**50), texts, texts, texts, st.none() | st.integers(0, 99), texts, texts)
second_columns = st.tuples(
    st.integers(0, 2**50),
    st.integers(0, 9),
    st.none() | st.integers(0, 99),
    st.tuples(*[texts] * 7),
    st.none() | st.binary(min_size=32, max_size=32),
)


@given(columns, columns)
def test_rows_of_the_first_form_that_differ_have_different_digests(one: Any, two: Any) -> None:
    assert (first_digest(*one) == first_digest(*two)) == (one == two)


@given(second_columns, second_columns)
def test_rows_of_the_second_form_that_differ_have_different_digests(one: Any, two: Any) -> None:
    assert (row_digest(*one) == row_digest(*two)) == (one == two)


@given(ids, ids, st.integers(0, 10**12))
def test_a_lease_token_says_what_it_was_made_of_and_is_safe_in_a_url(task_id: str, agent_id: str, attempt: int) -> None:
    token = LeaseToken(task_id=task_id, attempt=attempt, agent_id=agent_id)
    assert LeaseToken.decode(token.encode()) == token
    assert not set(token.encode()) & set("/+=?#&")


@given(st.text(max_size=60) | st.binary(max_size=10) | st.none())
def test_any_other_text_is_no_lease_token(text: Any) -> None:
    with pytest.raises(InvalidRequest, match="lease_token"):
        LeaseToken.decode(text)
    if isinstance(text, str):
        try:
            decoded = LeaseToken.decode(f"lt1.{text}")
        except InvalidRequest:
            return
        assert isinstance(decoded.attempt, int)
