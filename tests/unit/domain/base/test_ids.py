"""Ids: which texts are ids, and in which order made ids sort."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import ROUTE_WORDS, check_id, sortable_id

SAFE = "ABCXYZabcxyz0189"

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", fullmatch=True).filter(lambda text: text not in ROUTE_WORDS)


@given(ids)
def test_every_id_of_the_set_is_accepted_and_is_one_path_segment(text: str) -> None:
    assert check_id(text, "id") == text
    assert not set(text) & set("/?#% ")


@given(st.text(max_size=130))
def test_every_text_outside_the_set_is_refused_with_a_sentence(text: str) -> None:
    safe = 0 < len(text) <= 128 and text.isascii() and text[0].isalnum()
    if safe and all(char.isalnum() or char in "._:@-" for char in text) and text not in ROUTE_WORDS:
        return
    with pytest.raises(InvalidRequest, match=r"^agent_id must .*\.$"):
        check_id(text, "agent_id")


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], "a\n", "", "a" * 129, *sorted(ROUTE_WORDS)])
def test_a_value_that_only_resembles_an_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        check_id(value, "id")


@given(
    early=st.floats(0, 2**40), later=st.floats(0.001, 10**9), first=st.binary(min_size=10, max_size=10),
    second=st.binary(min_size=10, max_size=10),
)  # fmt: skip
def test_made_ids_sort_by_their_time_and_are_ids(early: float, later: float, first: bytes, second: bytes) -> None:
    earlier, afterwards = sortable_id("task", early, first), sortable_id("task", early + later, second)
    assert check_id(earlier, "id") == earlier
    assert len(earlier) == len("task_") + 26
    if int(early * 1000) < int((early + later) * 1000):
        assert earlier < afterwards
    assert (sortable_id("task", early, first) == sortable_id("task", early, second)) == (first == second)
