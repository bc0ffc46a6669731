"""The set of open items of a fan-out is what a set of numbers would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.json_writing import canonical_json
from cluster.domain.workflows.indexes import Indexes

_NUMBERS = st.frozensets(st.integers(0, 70))


@given(numbers=_NUMBERS, taken=st.integers(0, 70), first=st.integers(0, 70), length=st.integers(0, 9))
def test_it_is_a_set_of_numbers(numbers: frozenset[int], taken: int, first: int, length: int) -> None:
    found = Indexes.of(numbers)
    assert list(found) == sorted(numbers)
    assert (len(found), bool(found), taken in found) == (len(numbers), bool(numbers), taken in numbers)
    assert found - taken == Indexes.of(numbers - {taken})
    assert found | range(first, first + length) == Indexes.of(numbers | set(range(first, first + length)))
    assert Indexes.from_json(found.to_json()) == found == Indexes.from_json(sorted(numbers)), "of before, too"


def test_ten_thousand_open_items_are_a_few_characters() -> None:
    found = Indexes() | range(10_000)
    assert found.to_json() == [[0, 9999]]
    assert (found - 5 - 7).to_json() == [[0, 4], 6, [8, 9999]]
    assert len(canonical_json(found.to_json())) < 20
