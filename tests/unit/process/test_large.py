"""How large values are guessed to be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.process.large import MAX_INLINE_BYTES, rough_size

_SCALARS = st.none() | st.booleans() | st.integers(-99, 99) | st.text("ab", max_size=30)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("ab", max_size=9), inner, max_size=6)
)


@given(_VALUES)
def test_the_rough_size_is_near_that_of_the_text(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert len(text) / 10 - 5 <= rough_size(value) <= len(text)


def _endless() -> Any:
    value: list[Any] = []
    value += [value, value]
    return value


@pytest.mark.parametrize(
    "value",
    ["a" * 1_000_000, list(range(40_000)), {"a": [{"b": "c" * 7}] * 10_000}, {"k" * 70_000: 1}, _endless()],
    ids=["text", "numbers", "objects", "key", "endless"],
)
def test_a_large_value_is_seen_as_one(value: Any) -> None:
    assert rough_size(value) > MAX_INLINE_BYTES
