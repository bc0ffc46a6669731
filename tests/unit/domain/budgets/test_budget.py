"""Money, periods, levels, and what makes sense as a budget."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aragora_worker.base.money import MOST_USD, NANOS, nanos_of, usd
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.budgets.budget import (
    CREATED,
    Budget,
    BudgetScope,
    Mode,
    Period,
    checked,
    forecast,
    level_of,
    window_of,
)
from tests.support.budgets import a_budget
from tests.support.samples import ASKER, NOW


@given(st.integers(0, MOST_USD * NANOS))
def test_an_amount_is_read_as_it_was_written(nanos: int) -> None:
    assert nanos_of(usd(nanos), "limit_usd") == nanos


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1", NANOS),
        ("0.10", NANOS // 10),
        ("0.000000001", 1),
        ("9000000", MOST_USD * NANOS),
        ("007.5", 75 * NANOS // 10),
    ],
)
def test_dollars_are_read_exactly(text: str, nanos: int) -> None:
    assert nanos_of(text, "limit_usd") == nanos


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1e3", ".5", "1.", "1,5", "1.0000000001", "9000000.01", "NaN", "\u0661", " 1", "1\n", "9" * 400],
    ids=str.__repr__,
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="limit_usd"):
        nanos_of(text, "limit_usd")


def test_amounts_are_shown_with_at_least_two_decimals() -> None:
    assert [usd(nanos) for nanos in (0, NANOS, 1, 12 * NANOS + 500_000_000, -NANOS)] == [
        *("0.00", "1.00", "0.000000001", "12.50", "-1.00"),
    ]


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        (Period.DAY, "2026-02-28T23:59:59", "2026-02-28", "2026-03-01"),
        (Period.DAY, "2026-03-01T00:00:00", "2026-03-01", "2026-03-02"),
        (Period.MONTH, "2024-02-29T12:00:00", "2024-02-01", "2024-03-01"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
    ],
)
def test_periods_begin_at_midnight_utc(period: Period, at: str, start: str, end: str) -> None:
    window = window_of(period, _at(at))
    assert (window.start, window.end) == (_at(start), _at(end))


@given(st.sampled_from(Period), st.floats(0, 4e9))
def test_every_time_is_in_the_period_that_it_has(period: Period, at: float) -> None:
    window = window_of(period, at)
    assert window.start <= at < window.end
    assert window_of(period, window.end).start == window.end


def test_levels_are_reached_exactly_at_their_percent() -> None:
    assert [level_of(used, 200) for used in (0, 99, 100, 149, 150, 179, 180, 199, 200, 900)] == [
        *(0, 0, 50, 50, 75, 75, 90, 90, 100, 100),
    ]


def test_a_forecast_goes_on_as_until_now() -> None:
    window = window_of(Period.MONTH, _at("2026-04-10"))
    assert forecast(300, window, _at("2026-04-16")) == 600
    assert forecast(300, window, window.start) is None
    assert forecast(300, window, window.end) == 300


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "a1"},
        {"scope": BudgetScope.AGENT},
        {"scope": BudgetScope.AGENT, "subject": "a1", "mode": Mode.THROTTLE},
        {"estimate_nanos": 0},
        {"estimate_nanos": 11},
        {"limit_nanos": 0},
    ],
    ids=str,
)
def test_a_budget_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        checked(a_budget(**fields))


def test_a_row_has_all_of_a_budget_but_its_words() -> None:
    budget = a_budget(scope=BudgetScope.TASK_TYPE, subject="echo", name="Words of somebody")
    record = budget.record(ASKER, NOW, CREATED)
    assert "Words" not in str(record.data)
    read = Budget.from_log(budget.id, "w", NOW, ASKER.principal, record.data)
    assert read == a_budget(
        scope=BudgetScope.TASK_TYPE, subject="echo", name="", created_by=ASKER.principal, changed_by=ASKER.principal
    )
