"""What each event does to a task. The table in ``machine.py`` says which of these functions applies in which phase.

Each takes (head, event, now, policy) and returns a ``Transition``.
"""

from __future__ import annotations

from typing import Any

from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.log import IDENTITY, SYSTEM, LogTexts
from cluster.domain.tasks.children import LOG_TEXTS as CHILDREN_TEXTS
from cluster.domain.tasks.deciding import (
    RELEASED,
    decided,
    holds,
    must_hold,
    report_data,
    result_summary,
    run_data,
    short,
    since,
)
from cluster.domain.tasks.effects import (
    DEQUEUE,
    END_LEASE,
    END_UNDELIVERED,
    START_LEASE,
    Apply,
    Effect,
    EndLease,
    Enqueue,
    Transition,
)
from cluster.domain.tasks.events import (
    AgentLost,
    CancelAcknowledged,
    Claim,
    Complete,
    Event,
    Fail,
    LeaseExpired,
    QueueTimedOut,
    Reporter,
    RunAtReached,
    RunTimedOut,
    TotalTimedOut,
    Undelivered,
)
from cluster.domain.tasks.questions import LOG_TEXTS as QUESTION_TEXTS
from cluster.domain.tasks.refusals import ALREADY_TERMINAL, LEASE_LOST, Refusal
from cluster.domain.tasks.retries import RUN_TIMEOUT, ErrorClass, RetryPolicy, ends_the_task
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus

#: Stored in log rows, so a reason keeps its text. Some are alike:
#: ``run_time`` and ``total_time`` ended the task as ``timeout``. ``run_timeout`` ended an attempt, which is retried, or a task
#: that was being cancelled; ``total_timeout`` only the latter.
#: ``agent_offline`` ended an attempt whose agent went offline, ``agent_unregistered`` (the word of an earlier build) one whose
#: agent was deregistered; ``agent_lost`` is either, for a task that was being cancelled.
REASONS = frozenset(
    {
        *("failed", "retries_exhausted", "run_timeout", "run_time", "queue_time", "total_time", "total_timeout"),
        *("lease_expired", "agent_offline", "agent_lost", "agent_unregistered", "not_delivered", "requested"),
        *("stopped", "grace_over", "dependency_failed", "given_back", "rejected", "input_timeout"),
        *("parent_ended", "kills_workers"),
    }
)
#: A task of which so many attempts in a row have ended without a report is taken to end its workers, and is not tried again.
MOST_LOST = 3
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("task_id", "agent_id", "claim_id", "task_type", "after", "place", "replayed_as"), IDENTITY),
    "error_code": IDENTITY,
    "reason": REASONS,
    "error_class": frozenset(ErrorClass),
    "result_summary": frozenset({""}),
    **QUESTION_TEXTS,
    **CHILDREN_TEXTS,
}


def run_at_reached(head: TaskHead, event: RunAtReached, now: float, policy: RetryPolicy) -> Transition:
    """Queues a delayed task. Nothing is written, since readers see from ``run_at`` that the delay is over."""
    return Transition(head=replace(head, detail=TaskDetail.QUEUED), effects=(Enqueue(not_before=head.run_at),))


def claim(head: TaskHead, event: Claim, now: float, policy: RetryPolicy) -> Transition:
    """Starts the next attempt, with its lease."""
    new = replace(
        head,
        status=TaskStatus.RUNNING,
        detail=TaskDetail.RUNNING,
        attempt=head.attempt + 1,
        assigned_agent=event.agent_id,
        claim_id=event.claim_id,
        holder=event.principal,
        started_at=now,
    )
    data = {
        "agent_id": event.agent_id,
        "claim_id": event.claim_id,
        "task_type": head.task_type,
        "priority": head.priority,
        "wait_seconds": since(head.run_at, now),
    }
    effects = (DEQUEUE, START_LEASE)
    return decided(head, event, new, effects, "task.claimed", now, event.principal, data)


def _ended_it(head: TaskHead, by: Reporter) -> bool:
    """Whether ``by`` is the holder whose own report ended the last attempt."""
    if head.holder is None or (head.assigned_agent is not None and by.agent_id not in (None, head.assigned_agent)):
        return False
    return by.attempt == head.attempt if by.attempt is not None else by.principal == head.holder


def complete(head: TaskHead, event: Complete, now: float, policy: RetryPolicy) -> Transition:
    """Ends the task with a result. Raises: `Conflict` if the reporter does not hold the lease."""
    must_hold(head, event.by, event)
    new = replace(head, status=TaskStatus.COMPLETED, detail=TaskDetail.COMPLETED)
    data = report_data(head, event.by, now)
    private = None
    if event.result_json is None:
        data["result_summary"] = ""
    else:
        private = {"result_summary": result_summary(event.result_json)}
    return decided(
        head,
        event,
        new,
        (END_LEASE,),
        "task.completed",
        now,
        event.by.principal,
        data,
        result_json=event.result_json,
        private=private,
    )


def fail(head: TaskHead, event: Fail, now: float, policy: RetryPolicy) -> Transition:
    """Ends an attempt that failed: the task fails for good if a retry would not help, is dead-lettered if no retry is left,
    and is queued again after a backoff otherwise. An attempt that the holder gives back costs nothing.

    Raises: `Conflict` if the reporter does not hold the lease."""
    must_hold(head, event.by, event)
    if event.given_back:
        return _given_back(head, event, now, policy)
    data = report_data(head, event.by, now)
    # Who asks for no retry need not say the class too, and the history must not call such a failure retryable.
    refused = not event.requeue and event.error_class is ErrorClass.RETRYABLE
    data["error_class"] = (ErrorClass.NOT_RETRYABLE if refused else event.error_class).value
    if event.error_code is not None:
        data["error_code"] = event.error_code
    by = event.by.principal
    is_final = ends_the_task(head, event.error_code, event.error_class.value)
    if not event.requeue or event.error_class is ErrorClass.NOT_RETRYABLE or is_final:
        data["retries_left"] = 0
        new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED)
        return decided(head, event, new, (END_LEASE,), "task.failed", now, by, data, error=event.error)
    if head.retries >= head.max_retries:
        return _dead_letter(head, event, data, event.error, "retries_exhausted", now, by, holder=head.holder)
    delay_s = policy.delay_s(head, event.error_class, event.retry_after_s)
    return _retry(head, event, data, event.error, "failed", now, by, delay_s, holder=head.holder)


def _given_back(head: TaskHead, event: Fail, now: float, policy: RetryPolicy) -> Transition:
    """Queues a task again whose holder gave it back unfinished: at once and in its old order, or after a delay if that has
    happened several times. It keeps the holder, so that a repeated report is recognised."""
    delay_s = policy.given_back_delay_s(head)
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.DELAYED if delay_s else TaskDetail.QUEUED,
        run_at=now + delay_s if delay_s else head.run_at,
        lost=0,
        **RELEASED,
    )
    data = report_data(head, event.by, now)
    data.update(reason="given_back", retries_left=max(0, head.max_retries - head.retries))
    if delay_s:
        data.update(run_at=new.run_at, delay_seconds=round(delay_s, 6))
    effects = (END_LEASE, Enqueue(not_before=new.run_at))
    private = {"error": short(event.error)} if event.error else None
    return decided(head, event, new, effects, "task.requeued", now, event.by.principal, data, private=private)


def _retry(
    head: TaskHead,
    event: Event,
    data: dict[str, Any],
    error: str,
    reason: str,
    now: float,
    principal: str,
    delay_s: float,
    *,
    holder: str | None = None,
) -> Transition:
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.RETRYING,
        retries=head.retries + 1,
        run_at=now + delay_s,
        holder=holder,
        lost=0,
        **RELEASED,
    )
    data.update(
        reason=reason,
        retries_left=head.max_retries - new.retries,
        run_at=new.run_at,
        delay_seconds=round(delay_s, 6),
    )
    effects = (END_LEASE, Enqueue(not_before=new.run_at))
    return decided(head, event, new, effects, "task.retried", now, principal, data, error=error)


def _dead_letter(
    head: TaskHead,
    event: Event,
    data: dict[str, Any],
    error: str,
    reason: str,
    now: float,
    principal: str,
    *,
    holder: str | None = None,
) -> Transition:
    new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.DEAD_LETTERED, holder=holder)
    data.update(reason=reason, retries_left=0)
    return decided(head, event, new, (END_LEASE,), "task.dead_lettered", now, principal, data, error=error)


def _requeue(
    head: TaskHead,
    event: Event,
    reason: str,
    now: float,
    principal: str,
    *,
    charged: bool,
    end_lease: EndLease = END_LEASE,
) -> Transition:
    """Queues the task again without a delay and in its old order (``run_at`` stays), so that another agent can take it."""
    retries = head.retries + charged
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.QUEUED,
        retries=retries,
        holder=None,
        **RELEASED,
    )
    data = run_data(head, now)
    data.update(reason=reason, retries_left=max(0, head.max_retries - retries))
    effects = (end_lease, Enqueue(not_before=head.run_at))
    return decided(head, event, new, effects, "task.requeued", now, principal, data)


def _lost(head: TaskHead, event: Event, error: str, reason: str, now: float) -> Transition:
    """Ends an attempt whose agent fell silent; that costs a retry. The third in a row is the last, whatever retries are left:
    such a task would end one worker after the other."""
    head = replace(head, lost=head.lost + 1)
    if head.lost >= MOST_LOST:
        error = f"{MOST_LOST} attempts in a row ended without a report, so it seems to end its workers. {error}"
        return _dead_letter(head, event, run_data(head, now), error, "kills_workers", now, SYSTEM)
    if head.retries >= head.max_retries:
        return _dead_letter(head, event, run_data(head, now), error, reason, now, SYSTEM)
    return _requeue(head, event, reason, now, SYSTEM, charged=True)


def lease_expired(head: TaskHead, event: LeaseExpired, now: float, policy: RetryPolicy) -> Transition:
    error = f"Agent {head.assigned_agent} sent no heartbeat in time and lost its lease on attempt {head.attempt}."
    return _lost(head, event, error, "lease_expired", now)


def agent_lost(head: TaskHead, event: AgentLost, now: float, policy: RetryPolicy) -> Transition:
    """Queues the task again. An agent that was deregistered costs no retry, one that went offline does."""
    if event.was_deregistered:
        return _requeue(head, event, "agent_unregistered", now, SYSTEM, charged=False)
    return _lost(
        head, event, f"Agent {head.assigned_agent} went offline during attempt {head.attempt}.", "agent_offline", now
    )


def undelivered(head: TaskHead, event: Undelivered, now: float, policy: RetryPolicy) -> Transition:
    """Queues a task again whose lease reached nobody; ignores it if the lease is another one."""
    if not holds(head, event.by):
        return Transition(head=head)
    by = event.by.principal
    return _requeue(head, event, "not_delivered", now, by, charged=False, end_lease=END_UNDELIVERED)


def run_timed_out(head: TaskHead, event: RunTimedOut, now: float, policy: RetryPolicy) -> Transition:
    """Counts as a failed attempt: the task is retried, and ends as ``timeout`` if no retry is left."""
    error = f"Attempt {head.attempt} did not finish within {head.timeout_s:g} s."
    if head.retries >= head.max_retries or ends_the_task(head, RUN_TIMEOUT):
        return _time_out(head, event, error, "run_time", now)
    delay_s = policy.delay_s(head, ErrorClass.RETRYABLE, None)
    return _retry(head, event, run_data(head, now), error, "run_timeout", now, SYSTEM, delay_s)


def _time_out(head: TaskHead, event: Event, error: str, reason: str, now: float) -> Transition:
    waiting = head.status is TaskStatus.PENDING
    new = replace(head, status=TaskStatus.TIMEOUT, detail=TaskDetail.TIMEOUT, holder=None)
    data = run_data(head, now)
    data.update(reason=reason, retries_left=0)
    effects: tuple[Effect, ...] = (DEQUEUE,) if waiting else (END_LEASE,)
    return decided(head, event, new, effects, "task.timeout", now, SYSTEM, data, error=error)


def queue_timed_out(head: TaskHead, event: QueueTimedOut, now: float, policy: RetryPolicy) -> Transition:
    return _time_out(head, event, "No agent took the task within its queue time.", "queue_time", now)


def total_timed_out(head: TaskHead, event: TotalTimedOut, now: float, policy: RetryPolicy) -> Transition:
    return _time_out(head, event, "The task did not end within its total time.", "total_time", now)


def repeat_or(refusal: Refusal) -> Apply:
    """The function for a report that comes after the attempt has ended.

    It answers the holder whose report ended the attempt as before, and raises ``refusal`` for anybody else."""

    def apply(
        head: TaskHead, event: Complete | Fail | CancelAcknowledged, now: float, policy: RetryPolicy
    ) -> Transition:
        if _ended_it(head, event.by):
            return Transition(head=head)
        raise refusal.error(head, event)

    return apply


def other_end(head: TaskHead, event: Complete | Fail, now: float, policy: RetryPolicy) -> Transition:
    """Refuses a report that contradicts how the attempt ended.

    Raises: `Conflict` (``already_terminal`` for the holder that ended the attempt, else ``lease_lost``)."""
    refusal = ALREADY_TERMINAL if _ended_it(head, event.by) else LEASE_LOST
    raise refusal.error(head, event)
