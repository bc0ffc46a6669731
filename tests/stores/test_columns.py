"""Columns in text form come back as the values that went in, whatever characters they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import Unstorable
from cluster.postgres.columns import array, flags, numbers, texts
from cluster.postgres.pool import Pool, connect
from tests.support.stores import StoreUrls

#: What the form is made of, and what stands between elements while they are escaped.
_SPECIAL = [
    "{",
    "}",
    ",",
    '"',
    "\\",
    "\\\\",
    "NULL",
    "null",
    "",
    " ",
    "\x1e",
    "\x1e\x1e",
    "\n",
    '{"a": "b\\"c"}',
    "ä\u2028😀",
]
_TEXTS = st.sampled_from(_SPECIAL) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_INTS = st.integers(-(2**31), 2**31 - 1)
_FLOATS = st.floats(allow_nan=False)
_COLUMNS = [
    ("text", texts, _TEXTS),
    ("text", texts, st.none() | _TEXTS),
    ("integer", numbers, _INTS),
    ("integer", numbers, st.none() | _INTS),
    ("double precision", numbers, _FLOATS),
    ("double precision", numbers, st.none() | _FLOATS),
    ("boolean", flags, st.booleans()),
]


@pytest.mark.parametrize(("kind", "column", "values"), _COLUMNS)
async def test_a_column_comes_back_as_it_was(store_urls: StoreUrls, kind: str, column: Any, values: Any) -> None:
    connection = await asyncpg.connect(store_urls.database)
    statement = await connection.prepare(f"select $1::text::{kind}[]")
    batches: list[Sequence[Any]] = []

    @settings(max_examples=60)
    @given(st.lists(values, min_size=1, max_size=8))
    def drawn(batch: list[Any]) -> None:
        batches.append(batch)

    drawn()
    for batch in batches:
        expected = None if batch.count(None) == len(batch) else batch
        assert await statement.fetchval(column(batch)) == expected
    await connection.close()


@pytest.mark.parametrize("odd", [["a", 1], [None, 1]])
def test_a_value_that_is_no_text_is_a_fault_of_the_data(odd: Any) -> None:
    with pytest.raises(Unstorable):
        texts(odd)


def test_an_array_without_a_value_is_left_out() -> None:
    assert array([None, None]) is None
    assert array([None, "a"]) == [None, "a"]


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("text", texts(["a\0b"])),
        ("text", texts(["a", "\ud800"])),
        ("smallint", numbers([40_000])),
        ("integer", numbers([2**40, None])),
        ("double precision", numbers([10**400])),
    ],
)
async def test_what_the_store_cannot_hold_is_refused_as_before(
    store_urls: StoreUrls, schema: str, kind: str, sent: str
) -> None:
    pool: Pool = await connect(store_urls.database, schema)
    with pytest.raises(Unstorable):
        await pool.value(f"select $1::text::{kind}[]", sent)
    await pool.close()
