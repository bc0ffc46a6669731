"""Digests of log rows: rows that differ have different digests."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.log import first_digest, row_digest
from tests.support.odd import plain_texts, plain_values

texts, json_values = plain_texts, plain_values


columns = st.tuples(st.integers(0, 2**50), texts, texts, texts, st.none() | st.integers(0, 99), texts, texts)

second_columns = st.tuples(
    st.integers(0, 2**50),
    st.integers(0, 9),
    st.none() | st.integers(0, 99),
    st.tuples(*[texts] * 7),
    st.none() | st.binary(min_size=32, max_size=32),
)


@given(columns, columns)
def test_rows_of_the_first_form_that_differ_have_different_digests(row: Any, other: Any) -> None:
    assert (first_digest(*row) == first_digest(*other)) == (row == other)


@given(second_columns, second_columns)
def test_rows_of_the_second_form_that_differ_have_different_digests(row: Any, other: Any) -> None:
    assert (row_digest(*row) == row_digest(*other)) == (row == other)
