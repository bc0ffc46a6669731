"""What each end of an attempt settles: what its holder said, what was reserved, or nothing if its lease reached nobody."""

from __future__ import annotations

import pytest

from cluster.domain.budgets.accounts import Accounts, BudgetSums
from cluster.domain.budgets.entries import Reservation, Settlement
from cluster.domain.scheduling.spending import with_entry
from cluster.domain.tasks.events import (
    AgentLost,
    CancelRequested,
    Claim,
    Complete,
    Event,
    LeaseExpired,
    Prioritized,
    Reporter,
    Undelivered,
)
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import Priority, TaskHead
from tests.support.budgets import a_budget
from tests.support.samples import NOW, new_task

ESTIMATE = 700
HOLDER = Reporter(principal="p", agent_id="a1", attempt=1)
CANCEL = CancelRequested(principal="p", cause="")


def claimed(accounts: Accounts) -> TaskHead:
    accounts.load([a_budget(estimate_nanos=ESTIMATE)], {"budget_1": BudgetSums()}, [], NOW)
    head = new_task(id="t").head()
    transition = step(head, Claim(agent_id="a1", claim_id="c", principal="p"), NOW, RetryPolicy())
    decision = with_entry(accounts, head, transition, None)
    assert decision is not None
    assert isinstance(decision.entry, Reservation)
    assert decision.entry.nanos == ESTIMATE
    return transition.head


@pytest.mark.parametrize(
    ("events", "said", "nanos", "is_known"),
    [
        ([Undelivered(by=HOLDER)], None, 0, True),
        ([CANCEL, Undelivered(by=HOLDER)], None, 0, True),
        ([LeaseExpired()], None, ESTIMATE, False),
        ([AgentLost(was_deregistered=True, cause="")], None, ESTIMATE, False),
        ([AgentLost(was_deregistered=False, cause="")], None, ESTIMATE, False),
        ([Complete(by=HOLDER, result_json="1")], 5, 5, True),
        ([Complete(by=HOLDER, result_json="1")], None, ESTIMATE, False),
    ],
    ids=["undelivered", "undelivered and cancelled", "expired", "deregistered", "offline", "said", "not said"],
)
def test_an_attempt_costs_what_its_end_says(events: list[Event], said: int | None, nanos: int, is_known: bool) -> None:
    accounts = Accounts()
    head = claimed(accounts)
    for event in events:
        transition = step(head, event, NOW + 1, RetryPolicy())
        decision = with_entry(accounts, head, transition, said)
        head = transition.head
    assert decision is not None
    assert decision.entry == Settlement(task_id="t", attempt=1, nanos=nanos, is_known=is_known)


def test_a_step_without_a_decision_or_an_attempt_has_no_entry() -> None:
    accounts = Accounts()
    head = claimed(accounts)
    late = step(head, Undelivered(by=Reporter(principal="p", agent_id="a1", attempt=9)), NOW, RetryPolicy())
    assert with_entry(accounts, head, late, None) is None
    waiting = new_task(id="other").head()
    transition = step(waiting, Prioritized(principal="p", priority=Priority.LOW), NOW, RetryPolicy())
    decision = with_entry(accounts, waiting, transition, None)
    assert decision is not None
    assert decision.entry is None
