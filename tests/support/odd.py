"""Generators of what agents answer and nobody should keep: values, JSON texts, and bytes that are no JSON at all."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.json_values import MAX_DEPTH, MAX_DIGITS

plain_texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
plain_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | plain_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_texts, inner, max_size=4),
    max_leaves=20,
)
odd_texts = st.tuples(
    plain_texts, st.sampled_from(["\x00", "\ud800", "\udbff", "\udc00", "\udfff", "\ude00\ud83d"]), plain_texts
).map("".join)
_floats = st.sampled_from([math.nan, math.inf, -math.inf])


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


_too_deep = st.integers(MAX_DEPTH + 1, 300).map(_deep)
_too_long = st.tuples(st.sampled_from([1, -1]), st.integers(MAX_DIGITS, 6000)).map(lambda of: of[0] * 10 ** of[1])
_keys = odd_texts.map(lambda text: {text: 1})
_no_texts = st.sampled_from([1, 1.5, None, True]).map(lambda key: {key: 1, "k": 2})


def _inside(odd: st.SearchStrategy[Any], wrap: Any) -> st.SearchStrategy[Any]:
    """Somewhere in a value that is fine."""
    return st.tuples(odd, st.lists(st.booleans(), max_size=5)).map(wrap)


def _wrapped(of: tuple[Any, list[bool]]) -> Any:
    value, path = of
    for as_list in path:
        value = [1, value] if as_list else {"k": value, "v": 2}
    return value


#: Values of Python, as an agent in the cluster returns them.
odd_values = _inside(odd_texts | _floats | _too_deep | _too_long | _keys | _no_texts, _wrapped)


def _wrapped_text(of: tuple[str, list[bool]]) -> str:
    text, path = of
    for as_list in path:
        text = f"[1, {text}]" if as_list else f'{{"k": {text}, "v": 2}}'
    return text


_fragments = st.one_of(
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    st.tuples(st.sampled_from(["", "-"]), st.integers(1, 99), st.integers(308, 10**6)).map(
        lambda of: f"{of[0]}{of[1]}e{of[2] + 1}"
    ),
    st.integers(MAX_DIGITS + 1, 20_000).map(lambda digits: "9" * digits),
    odd_texts.map(json.dumps),  # as escapes
    odd_texts.map(lambda text: f"{{{json.dumps(text)}: 1}}"),
    st.integers(MAX_DEPTH + 1, 50_000).map(lambda depth: "[" * depth + "]" * depth),
    st.integers(MAX_DEPTH + 1, 50_000).map(lambda depth: '{"a":' * depth + "1" + "}" * depth),
)
#: JSON to some reader, with something in it that cannot be kept. All ASCII.
odd_json = _inside(_fragments, _wrapped_text)
#: Bodies that are no JSON at all.
no_json = st.one_of(
    st.sampled_from([b"", b"{", b'{"result": ', b"\xff\xfe", b"<html>", b'"\xed\xa0\x80', b"{]", b"\x00", b"nil"]),
    st.binary(min_size=1, max_size=30).map(lambda raw: b"\xff" + raw),
    st.integers(1000, 200_000).map(lambda depth: b"[" * depth),
)


def samples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """The same examples in every run, for tests in which one example takes its time."""
    found: list[Any] = []

    @settings(max_examples=count, derandomize=True, database=None)
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found
