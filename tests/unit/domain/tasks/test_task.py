"""Lease tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import ROUTE_WORDS
from cluster.domain.tasks.task import LeaseToken

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", fullmatch=True).filter(lambda text: text not in ROUTE_WORDS)


@given(ids, ids, st.integers(0, 10**12))
def test_a_lease_token_decodes_to_its_parts_and_is_url_safe(task_id: str, agent_id: str, attempt: int) -> None:
    token = LeaseToken(task_id=task_id, attempt=attempt, agent_id=agent_id)
    assert LeaseToken.decode(token.encode()) == token
    assert not set(token.encode()) & set("/+=?#&")


@given(st.text(max_size=60) | st.binary(max_size=10) | st.none())
def test_any_other_text_is_refused_as_a_lease_token(text: Any) -> None:
    with pytest.raises(InvalidRequest, match="lease_token"):
        LeaseToken.decode(text)
    if isinstance(text, str):
        try:
            decoded = LeaseToken.decode(f"lt1.{text}")
        except InvalidRequest:
            return
        assert isinstance(decoded.attempt, int)
