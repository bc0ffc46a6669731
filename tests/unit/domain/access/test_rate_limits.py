"""GCRA against a naive model that keeps every call, and the bounds of what is kept."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.rate_limits import (
    CallKind,
    Grant,
    Rate,
    RateTable,
    kind_of_call,
    take,
    whole_seconds,
)

NOW = 1_700_000_000.0


class LeakyBucket:
    """The naive model: a bucket of ``burst`` calls that leaks one per interval, in exact fractions."""

    def __init__(self, rate: Rate) -> None:
        self.interval = Fraction(rate.interval_s)
        self.burst = rate.burst
        self.level = Fraction(0)
        self.at = Fraction(0)

    def take(self, now: Fraction, calls: int) -> int:
        self.level = max(Fraction(0), self.level - (now - self.at) / self.interval)
        self.at = now
        granted = 0
        while granted < calls and self.level + 1 <= self.burst:
            self.level += 1
            granted += 1
        return granted

    def wait(self) -> Fraction:
        return max(Fraction(0), self.level + 1 - self.burst) * self.interval


#: Powers of two, so that the model and the numbers of a processor mean the same moments.
INTERVALS = st.sampled_from([1 / 1024, 1 / 4, 1.0, 8.0])


@given(
    interval_s=INTERVALS,
    burst=st.integers(1, 40),
    asked=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=60),
)
def test_it_grants_what_a_leaky_bucket_holds(interval_s: float, burst: int, asked: list[tuple[int, int]]) -> None:
    rate, used_up_to, now = Rate(interval_s, burst), 0.0, 0.0
    model = LeakyBucket(rate)
    for quarters, calls in asked:
        now += quarters * interval_s / 4
        used_up_to, grant = take(used_up_to, now, rate, calls)
        assert grant.granted == model.take(Fraction(now), calls)
        assert grant.retry_after_s == float(model.wait())


@given(
    calls=st.integers(1, 6_000_000),
    gaps=st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=100),
)
def test_no_window_has_more_than_its_rate_and_the_burst(calls: int, gaps: list[float]) -> None:
    rate, used_up_to, now, granted = Rate.per_minute(calls), 0.0, 0.0, 0
    for gap in gaps:
        now += gap
        used_up_to, grant = take(used_up_to, now, rate, 10**9)
        granted += grant.granted
        assert granted <= rate.burst + now / rate.interval_s + 1


def test_who_waits_for_the_time_that_it_is_told_may_call() -> None:
    rate = Rate.per_minute(7)
    used_up_to, grant = take(NOW, NOW, rate, 5)
    assert grant.granted == 1
    assert take(used_up_to, NOW + grant.retry_after_s, rate, 1)[1].granted == 1
    assert take(used_up_to, NOW + grant.retry_after_s - 0.01, rate, 1)[1].granted == 0


def test_a_clock_that_is_set_back_costs_at_most_the_burst() -> None:
    rate = Rate(1.0, 10)
    assert take(NOW + 3600, NOW, rate, 1)[1] == Grant(0, 1.0)


@pytest.mark.parametrize(("seconds", "sent"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.1, 2), (59.5, 60), (3600.0, 60)])
def test_retry_after_is_a_whole_number_up_to_a_minute(seconds: float, sent: int) -> None:
    assert whole_seconds(seconds) == sent


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/agents/{agent_id}/heartbeat", CallKind.HEARTBEATS),
        ("/agents/heartbeats", CallKind.HEARTBEATS),
        ("/tasks/claim", CallKind.CLAIMS),
        ("/tasks/{task_id}/complete", CallKind.OTHERS),
        ("/tasks", CallKind.OTHERS),
        ("/ws/control-plane", CallKind.OTHERS),
    ],
)
def test_heartbeats_and_claims_are_kinds_of_their_own(path: str, kind: CallKind) -> None:
    assert kind_of_call(path) is kind


@pytest.mark.parametrize(("calls", "sharers", "burst"), [(60, 1, 10), (60, 4, 2), (60, 100, 1), (1, 3, 1)])
def test_a_share_is_a_part_of_the_rate(calls: int, sharers: int, burst: int) -> None:
    share = Rate.per_minute(calls).shared_by(sharers)
    assert (share.interval_s, share.burst) == (60 / calls * sharers, burst)


def test_a_table_stays_bounded_and_keeps_who_has_used_most() -> None:
    table, rate = RateTable(max_kept=100), Rate(1.0, 10)
    assert table.take("worst", rate, 10, NOW).granted == 10
    for number in range(100_000):
        table.take(f"caller {number}", rate, 1, NOW + number * 1e-6)
    assert len(table) <= 100
    assert table.take("worst", rate, 1, NOW + 0.2).granted == 0
