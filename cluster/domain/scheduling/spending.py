"""What a decision reserves or settles of the budgets of its task's workspace."""

from __future__ import annotations

from cluster.domain.base.compact import evolve
from cluster.domain.budgets.accounts import Accounts
from cluster.domain.budgets.entries import Entry
from cluster.domain.tasks.effects import END_UNDELIVERED, Transition
from cluster.domain.tasks.task import TaskDecision, TaskHead, TaskStatus


def with_entry(
    accounts: Accounts, head: TaskHead, transition: Transition, cost_nanos: int | None
) -> TaskDecision | None:
    """The decision of a step of ``head`` with its entry, which is in ``accounts`` from now on; None if there is no decision. An
    attempt whose holder said no cost has cost what was reserved for it, also if its lease was lost: what it did may be billed.
    One that reached nobody has cost nothing."""
    decision, new = transition.decision, transition.head
    if decision is None:
        return None
    entry: Entry | None = None
    if new.attempt != head.attempt:
        assert new.assigned_agent is not None, "an attempt has a holder"
        at = decision.record.at
        entry = accounts.reserve(new.id, new.attempt, new.workspace, new.assigned_agent, new.task_type, at)
    elif head.status is TaskStatus.RUNNING and new.status is not TaskStatus.RUNNING:
        entry = accounts.settle(new.id, 0 if END_UNDELIVERED in transition.effects else cost_nanos)
    return decision if entry is None else evolve(decision, entry=entry)
