"""What each event does to a task that is being cancelled. As in ``steps.py``."""

from __future__ import annotations

from typing import Any

from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.log import SYSTEM
from cluster.domain.tasks.deciding import (
    decided,
    holds,
    must_hold,
    report_data,
    run_data,
)
from cluster.domain.tasks.effects import (
    DEQUEUE,
    END_LEASE,
    END_UNDELIVERED,
    Apply,
    EndLease,
    StartGrace,
    Transition,
)
from cluster.domain.tasks.events import (
    CancelAcknowledged,
    CancelDelivered,
    CancelRequested,
    Event,
    Fail,
    Undelivered,
)
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus


def cancel_waiting(head: TaskHead, event: CancelRequested, now: float, policy: RetryPolicy) -> Transition:
    new = replace(head, status=TaskStatus.CANCELLED, detail=TaskDetail.CANCELLED)
    data = {"task_type": head.task_type, "priority": head.priority}
    data["reason"] = "parent_ended" if event.parent_ended else "requested"
    return decided(head, event, new, (DEQUEUE,), "task.cancelled", now, event.principal, data)


def cancel_running(head: TaskHead, event: CancelRequested, now: float, policy: RetryPolicy) -> Transition:
    """Gives the holder the policy's grace to stop. The lease goes on meanwhile, so that the holder can still report."""
    new = replace(head, detail=TaskDetail.CANCELLING)
    until = now + policy.cancel_grace_s
    data = {"agent_id": head.assigned_agent, "task_type": head.task_type, "revoked_at": until}
    return decided(head, event, new, (StartGrace(until=until),), "task.cancel_requested", now, event.principal, data)


def cancel_delivered(head: TaskHead, event: CancelDelivered, now: float, policy: RetryPolicy) -> Transition:
    data = {"agent_id": head.assigned_agent, "task_type": head.task_type}
    return decided(head, event, head, (), "task.cancel_delivered", now, SYSTEM, data)


def _cancelled(
    head: TaskHead,
    event: Event,
    reason: str,
    now: float,
    principal: str,
    data: dict[str, Any],
    end_lease: EndLease = END_LEASE,
) -> Transition:
    """Ends the task as cancelled. If the holder's own report ended it (``stopped``), the head keeps the holder, so that a
    repeated report is recognised. For any other reason the attempt was taken away, and a late report must be refused."""
    holder = head.holder if reason == "stopped" else None
    new = replace(head, status=TaskStatus.CANCELLED, detail=TaskDetail.CANCELLED, holder=holder)
    data["reason"] = reason
    return decided(head, event, new, (end_lease,), "task.cancelled", now, principal, data)


def cancel_acknowledged(
    head: TaskHead, event: CancelAcknowledged | Fail, now: float, policy: RetryPolicy
) -> Transition:
    """Ends a task whose holder says that it has stopped. Raises: `Conflict` if the reporter does not hold the lease."""
    must_hold(head, event.by, event)
    return _cancelled(head, event, "stopped", now, event.by.principal, report_data(head, event.by, now))


def cancelled_because(reason: str) -> Apply:
    """The function that ends a cancelling task for a reason other than its holder's report."""

    def apply(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
        return _cancelled(head, event, reason, now, SYSTEM, run_data(head, now))

    return apply


def undelivered_while_cancelling(head: TaskHead, event: Undelivered, now: float, policy: RetryPolicy) -> Transition:
    if not holds(head, event.by):
        return Transition(head=head)
    by = event.by.principal
    return _cancelled(head, event, "not_delivered", now, by, run_data(head, now), END_UNDELIVERED)
