"""When runs are due, against a model that looks at every minute, over the changes of real zones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.schedules.timing import Cron, cron, interval

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu", "UTC")
#: Around them the zones change their clocks: by an hour, by half an hour (Lord Howe), at midnight (Sao Paulo in 2018).
MOMENTS = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2018, 11, 4, 3, tzinfo=UTC),
    datetime(2018, 2, 18, 2, tzinfo=UTC),
)
MINUTES = {"*": range(60), "*/15": range(0, 60, 15), "0": (0,), "30": (30,), "7,45": (7, 45)}
HOURS = {"*": range(24), "*/2": range(0, 24, 2), "0": (0,), "1-3": (1, 2, 3), "2": (2,)}


def _model(minute: str, hour: str, zone: ZoneInfo, since: int, until: int) -> Iterator[int]:
    """Debian's cron: if minute or hour begin with a star, what the clock on the wall shows at each minute. Otherwise each time of
    day once: the first one of a repeated hour, and one that the clock leaps over when it has leapt."""
    wildcard = "*" in (minute[0], hour[0]) or zone.key == "UTC"
    ran: set[datetime] = set()
    first = since - since % 60 - 86_400
    before = datetime.fromtimestamp(first - 60, zone).replace(tzinfo=None)
    for at in range(first, until, 60):
        wall = datetime.fromtimestamp(at, zone).replace(tzinfo=None)
        shown = [wall] if wildcard else list(_passed(before, wall))
        due = [time for time in shown if time.minute in MINUTES[minute] and time.hour in HOURS[hour]]
        before = max(before, wall)
        if (wildcard and due) or set(due) - ran:
            ran.update(due)
            if at > since:
                yield at


def _passed(before: datetime, wall: datetime) -> Iterator[datetime]:
    while before < wall:
        before += timedelta(minutes=1)
        yield before


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(MINUTES)),
    st.sampled_from(sorted(HOURS)),
    st.sampled_from(ZONES),
    st.sampled_from(MOMENTS),
    st.integers(-7200, 7200),
)
@example("30", "2", "Europe/Berlin", MOMENTS[1], 600)
@example("30", "2", "Europe/Berlin", MOMENTS[0], -1800)
@example("*", "*/2", "Australia/Lord_Howe", MOMENTS[4], 0)
@example("*", "0", "Australia/Lord_Howe", MOMENTS[4], 0)
def test_due_times_are_those_of_the_model(minute: str, hour: str, zone: str, moment: datetime, offset: int) -> None:
    since = int(moment.timestamp()) + offset
    until = since + 30 * 3600
    timing = cron(f"{minute} {hour} * * *", zone)
    due, found = timing.next_after(since), []
    while due is not None and due < until:
        found.append(due)
        due = timing.next_after(due)
    assert found == list(_model(minute, hour, ZoneInfo(zone), since, until))


@given(st.integers(10, 10**6), st.integers(0, 2 * 10**9), st.integers(0, 2 * 10**9))
def test_intervals_count_from_their_anchor(every: int, anchor: int, at: int) -> None:
    due = interval(every, anchor).next_after(at)
    assert due > at
    assert due >= anchor
    assert (due - anchor) % every == 0
    assert due - every <= at or due == anchor


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("0 0 31 2 *", "day-of-month"),
        ("* * * * * *", "five fields"),
        ("* * * *", "five fields"),
        ("", "five fields"),
        ("@reboot", "@daily"),
        ("0 0 1 * 1", "both"),
        ("0 0 */2 * 1", "both"),
        ("61 * * * *", "minute"),
        ("x * * * *", "minute"),
        ("0 " * 300, "five fields"),
    ],
    ids=range(10),
)
def test_what_cannot_be_read_is_refused_with_advice(expression: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        cron(expression, "UTC")


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "europe/berlin", "", "../UTC", "/etc/passwd", "localtime", "right/UTC", "a\0b", "x" * 300]
)
def test_unknown_zones_are_refused(zone: str) -> None:
    with pytest.raises(InvalidRequest, match="IANA"):
        cron("@daily", zone)


def test_aliases_are_expanded() -> None:
    assert cron(" @Daily ", "UTC") == Cron(expression="0 0 * * *", timezone="UTC")


@pytest.mark.parametrize("every", [0, 9, -1, 367 * 86_400])
def test_intervals_have_bounds(every: int) -> None:
    with pytest.raises(InvalidRequest, match="every_seconds"):
        interval(every, 0)
