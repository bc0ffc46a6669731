"""Cursors of pages: what was given out is taken, and nothing else."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from serve_app.http.paging import decode_cursor, encode_cursor

_times = st.floats(allow_nan=False, allow_infinity=False)
_ids = st.text("abz09_-", min_size=1, max_size=20)


@given(_times, _ids)
def test_a_cursor_leads_to_where_it_was_made(at: float, task_id: str) -> None:
    assert decode_cursor(encode_cursor(at, task_id)) == (at, task_id)


@pytest.mark.parametrize("at", ["nan", "inf", "-Infinity", "1e400", "1_0", " 1.0", "1", "0x1"])
def test_a_time_in_no_form_that_was_given_out_is_refused(at: str) -> None:
    """A page after a time that nothing is after would be the first one, again and again."""
    cursor = base64.urlsafe_b64encode(f"{at}|task_x".encode()).decode().rstrip("=")
    with pytest.raises(InvalidRequest, match="next_cursor"):
        decode_cursor(cursor)


@given(st.text(max_size=30) | st.tuples(st.text("0123456789.einfa+-", max_size=6), _ids).map("|".join))
def test_what_is_taken_is_what_would_be_given_out(text: str) -> None:
    for cursor in (text, base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")):
        with contextlib.suppress(InvalidRequest):
            position = decode_cursor(cursor)
            assert position is not None
            assert encode_cursor(*position) == cursor
