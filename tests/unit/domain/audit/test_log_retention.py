"""Which segment of the log may go: none that anything holds, whatever else is true."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.audit.log_retention import SKEW_S, Holds, Segment, holder
from cluster.domain.audit.retention import DAY_S

NOW = 1e9
SEGMENT = Segment(number=1, first_seq=1, last_seq=100, last_at=NOW - 40 * DAY_S, is_newest=False)
FREE = Holds(sealed=100, cursors={"a": 100, "b": 200}, oldest_work=None)


def test_a_segment_that_nothing_holds_may_go() -> None:
    assert holder(SEGMENT, FREE, NOW, 30) == ""
    assert holder(SEGMENT, replace(FREE, oldest_work=NOW - 40 * DAY_S + SKEW_S), NOW, 30) == ""


@given(
    segment=st.builds(
        Segment,
        number=st.just(1),
        first_seq=st.just(1),
        last_seq=st.integers(1, 10),
        last_at=st.floats(NOW - 3 * DAY_S, NOW),
        is_newest=st.booleans(),
    ),
    holds=st.builds(
        Holds,
        sealed=st.integers(0, 12),
        cursors=st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 12)),
        oldest_work=st.none() | st.floats(NOW - 4 * DAY_S, NOW),
    ),
    days=st.sampled_from((0.0, 0.5, 1.0, 2.0)),
)
def test_what_may_go_is_read_sealed_old_and_tells_of_no_work(segment: Segment, holds: Holds, days: float) -> None:
    may_go = (
        not segment.is_newest
        and days > 0
        and segment.last_at <= NOW - days * DAY_S
        and holds.sealed >= segment.last_seq
        and all(cursor is not None and cursor >= segment.last_seq for cursor in holds.cursors.values())
        and (holds.oldest_work is None or segment.last_at <= holds.oldest_work - SKEW_S)
    )
    assert (holder(segment, holds, NOW, days) == "") is may_go
