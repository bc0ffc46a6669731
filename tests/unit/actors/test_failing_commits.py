"""When failures of commits are worth a word."""

from __future__ import annotations

import pytest

from actors.failing_commits import FEW, MOMENT_S, WITHIN_S, FailingCommits, increments
from cluster.domain.metrics import Increment


def _count(moments: int, each: int = 1, apart_s: float = MOMENT_S) -> tuple[FailingCommits, float]:
    failing = FailingCommits()
    for moment in range(moments):
        for part in range(each):
            failing.count(increments({"23": 1}), 1000.0 + moment * apart_s + part / 10)
    return failing, 1000.0 + (moments - 1) * apart_s


def test_a_few_failures_are_no_warning_however_often_each_was_tried() -> None:
    failing, now = _count(FEW, each=9)
    assert failing.warnings(now) == []


def test_more_are_said_by_class_until_a_minute_after_the_last() -> None:
    failing, now = _count(FEW + 1)
    failing.count([*increments({"53": 2}), Increment(name="aragora_cp_agents_active", labels=("x",))], now)
    (warning,) = failing.warnings(now)
    assert f"{FEW + 3} within a minute" in warning
    assert f"(23: {FEW + 1}, 53: 2)" in warning
    assert failing.warnings(now + WITHIN_S + 1) == []


@pytest.mark.parametrize("apart_s", [WITHIN_S / FEW, 3600.0])
def test_failures_that_are_rare_are_no_warning(apart_s: float) -> None:
    failing, now = _count(100, apart_s=apart_s + 1)
    assert failing.warnings(now) == []
