"""Which segment of the log may go: none that anything holds, whatever else is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.audit.log_retention import (
    SKEW_S,
    Dropped,
    Follower,
    Holds,
    Segment,
    cursors_dropped,
    dropped,
    followed_holder,
    holder,
)
from cluster.domain.audit.retention import DAY_S

NOW = 1e9
SEGMENT = Segment(number=1, first_seq=1, last_seq=100, last_at=NOW - 40 * DAY_S, is_newest=False)
FREE = Holds(sealed=100, cursors={Follower.TELEMETRY: 100, Follower.WORKFLOWS: 200}, oldest_work=None)


def test_a_segment_that_nothing_holds_may_go() -> None:
    assert holder(SEGMENT, FREE, NOW, 30) == ""
    assert holder(SEGMENT, replace(FREE, oldest_work=NOW - 40 * DAY_S + SKEW_S), NOW, 30) == ""


_SEGMENTS = st.builds(
    Segment,
    number=st.just(1),
    first_seq=st.just(1),
    last_seq=st.integers(1, 10),
    last_at=st.floats(NOW - 3 * DAY_S, NOW),
    is_newest=st.booleans(),
)
_HOLDS = st.builds(
    Holds,
    sealed=st.integers(0, 12),
    cursors=st.dictionaries(st.sampled_from(Follower), st.none() | st.integers(0, 12)),
    oldest_work=st.none() | st.floats(NOW - 4 * DAY_S, NOW),
    regions=st.dictionaries(st.sampled_from(("east", "west")), st.none() | st.integers(0, 12)),
    is_told=st.booleans(),
)
_DAYS = st.sampled_from((0.0, 0.5, 1.0, 2.0))


def _unread(segment: Segment, cursors: Mapping[Any, int | None]) -> frozenset[Any]:
    return frozenset(name for name, cursor in cursors.items() if cursor is None or cursor < segment.last_seq)


@given(segment=_SEGMENTS, holds=_HOLDS, days=_DAYS)
def test_what_may_go_is_read_sealed_old_and_tells_of_no_work(segment: Segment, holds: Holds, days: float) -> None:
    may_go = (
        not segment.is_newest
        and days > 0
        and segment.last_at <= NOW - days * DAY_S
        and holds.sealed >= segment.last_seq
        and not _unread(segment, holds.cursors)
        and holds.is_told
        and not _unread(segment, holds.regions)
        and (holds.oldest_work is None or segment.last_at <= holds.oldest_work - SKEW_S)
    )
    assert (holder(segment, holds, NOW, days) == "") is may_go


@given(segment=_SEGMENTS, holds=_HOLDS, days=_DAYS)
def test_only_followers_that_alone_hold_a_late_segment_are_dropped(segment: Segment, holds: Holds, days: float) -> None:
    unread = Dropped(_unread(segment, holds.cursors), _unread(segment, holds.regions))
    found = dropped(segment, holds, NOW, days, DAY_S)
    assert found in (Dropped(), unread)
    goes = holder(segment, replace(holds, cursors={}, regions={}), NOW, days) == ""
    late = segment.last_at <= NOW - (days + 1) * DAY_S
    assert bool(found) is (goes and late and bool(unread))
    assert not dropped(segment, holds, NOW, days, 0)


@given(segment=_SEGMENTS, holds=_HOLDS, days=_DAYS, archived=st.integers(0, 12))
def test_a_region_that_follows_removes_what_is_archived(
    segment: Segment, holds: Holds, days: float, archived: int
) -> None:
    """Neither seals nor other regions are its business: the primary has looked."""
    may_go = (
        not segment.is_newest
        and days > 0
        and segment.last_at <= NOW - days * DAY_S
        and archived >= segment.last_seq
        and Follower.TELEMETRY not in _unread(segment, holds.cursors)
    )
    assert (followed_holder(segment, archived, holds, NOW, days) == "") is may_go


def test_those_that_are_given_up_are_named() -> None:
    late = Dropped(frozenset({Follower.WORKFLOWS}), frozenset({"west", "east"}))
    assert str(late) == "workflows and region east and region west"
    assert [record.data.get("region") for record in cursors_dropped(late, SEGMENT, NOW)] == [None, "east", "west"]
