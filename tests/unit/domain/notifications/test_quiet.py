"""Quiet hours against a model that looks at each minute of the zone's clock, and digests against sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.notifications.digest import MOST_TOLD, digest_title, left_out
from cluster.domain.notifications.events import DIGEST, Severity
from cluster.domain.notifications.messages import mail, slack_body, teams_body
from cluster.domain.notifications.quiet import DAYS, QuietHours, minutes_of
from cluster.domain.notifications.rules import RepeatBy
from tests.support.notifications import new_rule
from tests.support.samples import NOW
from tests.unit.domain.notifications.test_rules import MAIL_SERVER, notification, queued, row

MINUTE_S = 60.0
#: Without changes of its clock, so that the model may count minutes.
FIXED = ("UTC", "Asia/Tokyo", "Asia/Kolkata")
START = datetime(2026, 3, 2, tzinfo=UTC).timestamp()


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def _is_quiet(quiet: QuietHours, moment: float) -> bool:
    """By the clock alone: on a chosen day from the start on, or on the day after one until the end."""
    shown = datetime.fromtimestamp(moment, ZoneInfo(quiet.timezone))
    minute, today = shown.hour * 60 + shown.minute, shown.weekday()
    yesterday = (shown - timedelta(days=1)).weekday()
    if quiet.end > quiet.start:
        return today in quiet.days and quiet.start <= minute < quiet.end
    return (today in quiet.days and minute >= quiet.start) or (yesterday in quiet.days and minute < quiet.end)


hours = st.builds(
    QuietHours,
    start=st.integers(0, 47).map(lambda half: half * 30),
    end=st.integers(0, 47).map(lambda half: half * 30),
    timezone=st.sampled_from(FIXED),
    days=st.sets(st.integers(0, 6), min_size=1, max_size=6).map(lambda days: tuple(sorted(days))),
)


@given(quiet=hours, halves=st.integers(0, 7 * 48 - 1), seconds=st.integers(0, 1799))
def test_quiet_hours_end_where_a_clock_that_is_watched_says(quiet: QuietHours, halves: int, seconds: int) -> None:
    moment = START + halves * 30 * MINUTE_S + seconds
    until = quiet.until(moment)
    if not _is_quiet(quiet, moment):
        assert until is None
        return
    expected = moment - seconds
    while _is_quiet(quiet, expected):
        expected += 30 * MINUTE_S
    assert until == expected


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-03-28T22:30:00", "2026-03-29T07:00:00"),
        ("2026-03-29T01:30:00", "2026-03-29T07:00:00"),
        ("2026-10-25T02:30:00", "2026-10-25T07:00:00"),
        ("2026-10-25T07:00:00", None),
        ("2026-10-25T21:59:00", None),
    ],
)
def test_a_night_in_which_the_clock_changes_ends_in_the_morning(moment: str, end: str | None) -> None:
    quiet = QuietHours(start=minutes_of("22:00"), end=minutes_of("07:00"), timezone="Europe/Berlin")
    assert quiet.until(at(moment, "Europe/Berlin")) == (end and at(end, "Europe/Berlin"))


def test_a_weekend_is_one_quiet_time() -> None:
    quiet = QuietHours(start=0, end=0, days=(DAYS.index("sat"), DAYS.index("sun")))
    assert quiet.until(at("2026-11-28T09:00:00")) == at("2026-11-30T00:00:00")
    assert quiet.until(at("2026-11-30T00:00:00")) is None


def test_quiet_around_the_clock_has_an_end() -> None:
    until = QuietHours(start=0, end=0).until(NOW)
    assert until is not None
    assert NOW < until <= NOW + 8 * 86_400


def test_what_is_stored_of_quiet_hours_is_what_it_was() -> None:
    quiet = QuietHours(start=1, end=1439, timezone="Asia/Tokyo", days=(0, 6), unless=Severity.ERROR)
    assert QuietHours.from_json(quiet.to_json()) == quiet


@pytest.mark.parametrize(
    ("parts", "due"),
    [
        ({}, None),
        ({"digest_s": 600.0}, "12:10"),
        ({"quiet": ("11:00", "13:00")}, "13:00"),
        ({"quiet": ("11:00", "13:00"), "digest_s": 600.0}, "13:00"),
        ({"quiet": ("12:05", "13:00"), "digest_s": 600.0}, "13:00"),
        ({"quiet": ("12:30", "13:00"), "digest_s": 600.0}, "12:10"),
        ({"quiet": ("11:00", "13:00", Severity.ERROR)}, None),
        ({"quiet": ("11:00", "13:00", Severity.ERROR), "digest_s": 600.0}, "13:00"),
    ],
    ids=str,
)
def test_an_event_is_gathered_until_its_digest_and_no_quiet_time_ends(parts: dict[str, Any], due: str | None) -> None:
    chosen = dict(parts)
    if "quiet" in chosen:
        start, end, *unless = chosen["quiet"]
        chosen["quiet"] = QuietHours(
            start=minutes_of(start), end=minutes_of(end), unless=unless[0] if unless else Severity.CRITICAL
        )
    now = at("2026-11-30T12:00:00")
    (item,) = queued(new_rule(**chosen), now=now)
    assert item.due_at == (now if due is None else at(f"2026-11-30T{due}:00"))
    assert (item.event == DIGEST) is (due is not None)


def test_a_digest_counts_all_and_tells_the_first() -> None:
    rows = [row(n, kind="task.timeout" if n % 3 == 0 else "task.failed", entity=f"task_{n}") for n in range(1, 251)]
    (digest,) = queued(new_rule(digest_s=60.0, repeat_by=RepeatBy.EVENT), rows=tuple(rows))
    assert digest.data["counts"] == {"task.failed": 167, "task.timeout": 83}
    assert [event["seq"] for event in digest.data["events"]] == list(range(1, MOST_TOLD + 1))
    assert left_out(digest.data) == 250 - MOST_TOLD
    assert (digest.seq, digest.severity) == (250, Severity.ERROR)
    assert digest_title("all", digest.data) == "250 events of rule all: 167 task.failed, 83 task.timeout"


def test_messages_of_a_digest_tell_its_events_on_lines_of_their_own() -> None:
    rows = tuple(row(n, entity=f"task_{n}<\n>") for n in range(1, 13))
    (digest,) = queued(new_rule(digest_s=60.0), rows=rows)
    told = notification(event=DIGEST, data=digest.data, rule="all", entity="all")
    for body in (slack_body, teams_body):
        text = body(told).decode()
        assert "12 events of rule all: 12 task.failed" in text
        assert "task_10" in text
        assert "task_11" not in text
        assert "and 2 more" in text
    assert "task_1<" not in slack_body(told).decode()
    lines = mail(told, MAIL_SERVER, NOW).get_content().splitlines()
    assert len([line for line in lines if "error: Task task_" in line]) == 12
