"""JSON from outside: what can be kept, what is refused, and what is read back."""

from __future__ import annotations

import itertools
import json
import math
from asyncio import CancelledError
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import (
    CUT_MARK,
    MAX_DEPTH,
    MAX_DIGITS,
    NotJson,
    check_json,
    check_text,
    cut_text,
    parse_json,
    read_json,
    shown_error,
    shown_text,
    shown_words,
    write_any_json,
    write_json,
)
from cluster.process.large import rough_size
from tests.support.odd import no_json, odd_json, odd_texts, odd_values, plain_texts, plain_values

texts, json_values = plain_texts, plain_values


@given(json_values)
def test_json_that_can_be_stored_is_accepted(value: Any) -> None:
    check_json(value, "payload")


@given(odd_values)
def test_a_value_that_cannot_be_stored_is_found_at_any_depth(value: Any) -> None:
    for check in (check_json, write_json):
        with pytest.raises(InvalidRequest, match=r"^payload .*\.$") as refused:
            check(value, "payload")
        assert refused.value.code == "invalid_json"
        assert len(refused.value.message) < 100, "what was sent is not repeated"


@given(json_values)
def test_written_json_reads_back_unchanged(value: Any) -> None:
    text = write_json(value, "payload")
    assert read_json(text, "payload") == read_json(text.encode(), "payload") == value


@given(odd_json)
def test_a_text_that_only_some_readers_read_is_refused(text: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(InvalidRequest, match=r"^payload .*\.$"):
            read_json(content, "payload")


@given(no_json)
def test_a_text_that_no_reader_accepts_is_no_json(content: bytes) -> None:
    with pytest.raises(NotJson, match=r"^payload .*\.$"):
        parse_json(content, "payload")


@given(st.integers(MAX_DIGITS + 1, 20_000), st.sampled_from(["%s", "-%s", '{"a": [1, %s]}']))
def test_a_number_of_too_many_digits_is_named_as_such(digits: int, text: str) -> None:
    for read in (parse_json, read_json):
        for content in (text % ("9" * digits), (text % ("9" * digits)).encode()):
            with pytest.raises(InvalidRequest) as refused:
                read(content, "payload")
            assert refused.value.message == f"payload holds a number of more than {MAX_DIGITS} digits."
            assert not isinstance(refused.value, NotJson)


def test_a_python_value_is_accepted_if_json_can_hold_it() -> None:
    value = {"a": (1, 2.5), "3": None, "null": True, "false": [()]}
    assert write_json(value, "result") == '{"a": [1, 2.5], "3": null, "null": true, "false": [[]]}'
    longest = 10**MAX_DIGITS - 1
    assert read_json(write_json([longest, -longest], "result"), "result") == [longest, -longest]
    cycle: list[Any] = []
    cycle.append(cycle)
    for wrong in ({1, 2}, b"bytes", object(), {(1, 2): 3}, {math.nan: 1}, 1j, cycle, {10**MAX_DIGITS: 1}):
        with pytest.raises(InvalidRequest, match=r"^result .*\.$"):
            write_json([wrong], "result")


@pytest.mark.parametrize("key", [1, 0, -1, 1.5, math.inf, None, True, b"k", (1, 2)], ids=repr)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [1, ({"k": value},)]], ids=["outermost", "inside"])
def test_a_key_that_is_no_text_is_refused_and_its_type_named(key: Any, wrap: Any) -> None:
    for given_value in ({key: 1}, {"a": 1, key: 2}, {key: 1, str(key): 2}):
        with pytest.raises(InvalidRequest) as refused:
            write_json(wrap(given_value), "result")
        words = f"result holds a key of the type {type(key).__name__}; JSON has only texts as keys."
        assert (refused.value.message, refused.value.code) == (words, "invalid_json")


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


class _Ends(Exception):
    """Somebody's error whose text ends the process, or cannot be had."""

    def __str__(self) -> str:
        raise self.args[0]


class _Nameless(type):
    @property
    def __name__(cls) -> str:
        raise SystemExit(3)


class _Unnamed(Exception, metaclass=_Nameless):
    pass


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), CancelledError(), ValueError()]
)
def test_an_error_whose_text_raises_anything_is_shown_without_it(raised: BaseException) -> None:
    assert shown_words(_Ends(raised), 100) == ""
    assert shown_error(_Ends(raised), 100) == "_Ends: "
    assert shown_error(_Unnamed("words"), 100) == "error: words"


@given(plain_texts, st.integers(0, 40))
def test_a_cut_text_keeps_its_bytes_and_says_that_it_is_cut(text: str, limit: int) -> None:
    cut = cut_text(text, limit)
    kept = cut.removesuffix(CUT_MARK) if len(text.encode()) > limit else cut
    assert (cut == text) == (len(text.encode()) <= limit)
    assert text.startswith(kept)
    assert len(kept.encode()) <= limit


def test_a_value_of_shared_parts_is_refused_after_bounded_work() -> None:
    value: Any = ["x"] * 2
    for _ in range(40):
        value = [value, value]
    for check in (check_json, write_json):
        with pytest.raises(InvalidRequest, match=r"^The result holds more than 2000000 values\.$"):
            check(value, "The result")


class _EndlessList(list[Any]):
    def __len__(self) -> int:
        return 5

    def __bool__(self) -> bool:
        raise SystemExit

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(1)


class _EndlessTuple(tuple[Any, ...]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(1)


class _EndlessDict(dict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        return itertools.repeat("a")

    def items(self) -> Any:
        return itertools.repeat(("a", 1))

    def values(self) -> Any:
        return itertools.repeat(1)


def test_containers_of_other_types_are_read_as_what_they_hold() -> None:
    """Their own methods may never end, in the loop of all jobs of a worker."""
    odd = _EndlessDict(a=_EndlessList([1, _EndlessTuple(("x",))]), b=Counter("aa"), c=OrderedDict(z=1))
    check_json(odd, "The result")
    assert rough_size(odd) < 100
    assert json.loads(write_any_json(odd, "The result")) == {"a": [1, ["x"]], "b": {"a": 2}, "c": {"z": 1}}
    with pytest.raises(InvalidRequest, match="NaN"):
        check_json(_EndlessDict(a=_EndlessList([math.nan])), "The result")
