"""What each event does to a task. The table in ``machine.py`` says which of these functions applies in which phase.

Each takes (head, event, now, policy) and returns a ``Transition``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.log import IDENTITY, SYSTEM, LogRecord, LogTexts
from cluster.domain.tasks.children import LOG_TEXTS as CHILDREN_TEXTS
from cluster.domain.tasks.columns import check_columns, row_text
from cluster.domain.tasks.effects import (
    DEQUEUE,
    END_LEASE,
    END_UNDELIVERED,
    START_LEASE,
    Apply,
    AwaitAnswer,
    AwaitChildren,
    Effect,
    EndLease,
    Enqueue,
    StartGrace,
    Transition,
)
from cluster.domain.tasks.events import (
    AgentLost,
    Answered,
    Asked,
    CancelAcknowledged,
    CancelDelivered,
    CancelRequested,
    Claim,
    Complete,
    DependencyFailed,
    Event,
    Fail,
    InputTimedOut,
    LeaseExpired,
    ParkAsked,
    Prioritized,
    QueueTimedOut,
    Reporter,
    RunAtReached,
    RunTimedOut,
    TotalTimedOut,
    Unblocked,
    Undelivered,
)
from cluster.domain.tasks.order_key import encode
from cluster.domain.tasks.questions import LOG_TEXTS as QUESTION_TEXTS
from cluster.domain.tasks.questions import Answer, Question, Verdict
from cluster.domain.tasks.refusals import ALREADY_TERMINAL, LEASE_LOST, NOT_ASKING, Refusal
from cluster.domain.tasks.retries import RUN_TIMEOUT, ErrorClass, RetryPolicy, ends_the_task
from cluster.domain.tasks.task import TaskDecision, TaskDetail, TaskHead, TaskStatus

SUMMARY_CHARS = 200

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


def _decided(
    old: TaskHead,
    event: Event,
    new: TaskHead,
    effects: tuple[Effect, ...],
    kind: str,
    now: float,
    principal: str,
    data: Mapping[str, Any],
    *,
    result_json: str | None = None,
    error: str | None = None,
    private: Mapping[str, Any] | None = None,
    question: Question | None = None,
    answer: Answer | None = None,
    children: tuple[str, ...] = (),
) -> Transition:
    """A transition that is written. ``error`` is stored with the task and, shortened, in the private part of its log row.

    Raises: `InvalidRequest` if the store could not hold it."""
    words = private if error is None else {"error": _short(error)}
    record = LogRecord(
        at=now,
        workspace=old.workspace,
        kind=kind,
        entity=old.id,
        attempt=new.attempt,
        principal=principal,
        cause=event.cause,
        data=data,
        private=words,
        data_text=row_text(data, "data"),
        words_text="" if words is None else row_text(words, "words"),
    )
    decision = TaskDecision(
        head=new,
        expect_status=old.status,
        expect_attempt=old.attempt,
        record=record,
        completed_at=now if new.status.terminal else None,
        result_json=result_json,
        error=error,
        question=question,
        answer=answer,
        children=children,
    )
    check_columns(decision)
    return Transition(head=new, decision=decision, effects=effects)


def unchanged(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
    return Transition(head=head)


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
        "wait_seconds": _since(head.run_at, now),
    }
    effects = (DEQUEUE, START_LEASE)
    return _decided(head, event, new, effects, "task.claimed", now, event.principal, data)


def _holds(head: TaskHead, by: Reporter) -> bool:
    """Whether ``by`` holds the lease: by its token's attempt and agent or, without a token, by the principal that claimed."""
    if by.attempt is not None:
        return by.attempt == head.attempt and by.agent_id == head.assigned_agent
    return by.principal == head.holder and by.agent_id in (None, head.assigned_agent)


def _ended_it(head: TaskHead, by: Reporter) -> bool:
    """Whether ``by`` is the holder whose own report ended the last attempt."""
    if head.holder is None or (head.assigned_agent is not None and by.agent_id not in (None, head.assigned_agent)):
        return False
    return by.attempt == head.attempt if by.attempt is not None else by.principal == head.holder


def _must_hold(head: TaskHead, by: Reporter, event: Event) -> None:
    if not _holds(head, by):
        raise LEASE_LOST.error(head, event)


def _run_data(head: TaskHead, now: float) -> dict[str, Any]:
    started = now if head.started_at is None else head.started_at
    return {
        "agent_id": head.assigned_agent,
        "task_type": head.task_type,
        "priority": head.priority,
        "duration_seconds": _since(started, now),
    }


def _report_data(head: TaskHead, by: Reporter, now: float) -> dict[str, Any]:
    data = _run_data(head, now)
    if not by.fenced:
        data["fenced"] = False
    return data


def _since(start: float, now: float) -> float:
    return max(0.0, round(now - start, 6))


def result_summary(result_json: str | None) -> str:
    """The first characters of a result, for people: a text without its quotes, anything else as JSON."""
    if result_json is None:
        return ""
    if result_json.startswith('"'):
        return str(json.loads(result_json))[:SUMMARY_CHARS]
    return result_json[:SUMMARY_CHARS]


def complete(head: TaskHead, event: Complete, now: float, policy: RetryPolicy) -> Transition:
    """Ends the task with a result. Raises: `Conflict` if the reporter does not hold the lease."""
    _must_hold(head, event.by, event)
    new = replace(head, status=TaskStatus.COMPLETED, detail=TaskDetail.COMPLETED)
    data = _report_data(head, event.by, now)
    private = None
    if event.result_json is None:
        data["result_summary"] = ""
    else:
        private = {"result_summary": result_summary(event.result_json)}
    return _decided(
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
    _must_hold(head, event.by, event)
    if event.given_back:
        return _given_back(head, event, now, policy)
    data = _report_data(head, event.by, now)
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
        return _decided(head, event, new, (END_LEASE,), "task.failed", now, by, data, error=event.error)
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
        assigned_agent=None,
        claim_id=None,
        started_at=None,
        lost=0,
    )
    data = _report_data(head, event.by, now)
    data.update(reason="given_back", retries_left=max(0, head.max_retries - head.retries))
    if delay_s:
        data.update(run_at=new.run_at, delay_seconds=round(delay_s, 6))
    effects = (END_LEASE, Enqueue(not_before=new.run_at))
    private = {"error": _short(event.error)} if event.error else None
    return _decided(head, event, new, effects, "task.requeued", now, event.by.principal, data, private=private)


def _short(error: str) -> str:
    """The beginning of an error, for its log row, which every follower reads. The task's row keeps the whole text."""
    return error[:1000]


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
        assigned_agent=None,
        claim_id=None,
        holder=holder,
        started_at=None,
        lost=0,
    )
    data.update(
        reason=reason,
        retries_left=head.max_retries - new.retries,
        run_at=new.run_at,
        delay_seconds=round(delay_s, 6),
    )
    effects = (END_LEASE, Enqueue(not_before=new.run_at))
    return _decided(head, event, new, effects, "task.retried", now, principal, data, error=error)


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
    return _decided(head, event, new, (END_LEASE,), "task.dead_lettered", now, principal, data, error=error)


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
        assigned_agent=None,
        claim_id=None,
        holder=None,
        started_at=None,
    )
    data = _run_data(head, now)
    data.update(reason=reason, retries_left=max(0, head.max_retries - retries))
    effects = (end_lease, Enqueue(not_before=head.run_at))
    return _decided(head, event, new, effects, "task.requeued", now, principal, data)


def _lost(head: TaskHead, event: Event, error: str, reason: str, now: float) -> Transition:
    """Ends an attempt whose agent fell silent; that costs a retry. The third in a row is the last, whatever retries are left:
    such a task would end one worker after the other."""
    head = replace(head, lost=head.lost + 1)
    if head.lost >= MOST_LOST:
        error = f"{MOST_LOST} attempts in a row ended without a report, so it seems to end its workers. {error}"
        return _dead_letter(head, event, _run_data(head, now), error, "kills_workers", now, SYSTEM)
    if head.retries >= head.max_retries:
        return _dead_letter(head, event, _run_data(head, now), error, reason, now, SYSTEM)
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
    if not _holds(head, event.by):
        return Transition(head=head)
    by = event.by.principal
    return _requeue(head, event, "not_delivered", now, by, charged=False, end_lease=END_UNDELIVERED)


def run_timed_out(head: TaskHead, event: RunTimedOut, now: float, policy: RetryPolicy) -> Transition:
    """Counts as a failed attempt: the task is retried, and ends as ``timeout`` if no retry is left."""
    error = f"Attempt {head.attempt} did not finish within {head.timeout_s:g} s."
    if head.retries >= head.max_retries or ends_the_task(head, RUN_TIMEOUT):
        return _time_out(head, event, error, "run_time", now)
    delay_s = policy.delay_s(head, ErrorClass.RETRYABLE, None)
    return _retry(head, event, _run_data(head, now), error, "run_timeout", now, SYSTEM, delay_s)


def _time_out(head: TaskHead, event: Event, error: str, reason: str, now: float) -> Transition:
    waiting = head.status is TaskStatus.PENDING
    new = replace(head, status=TaskStatus.TIMEOUT, detail=TaskDetail.TIMEOUT, holder=None)
    data = _run_data(head, now)
    data.update(reason=reason, retries_left=0)
    effects: tuple[Effect, ...] = (DEQUEUE,) if waiting else (END_LEASE,)
    return _decided(head, event, new, effects, "task.timeout", now, SYSTEM, data, error=error)


def queue_timed_out(head: TaskHead, event: QueueTimedOut, now: float, policy: RetryPolicy) -> Transition:
    return _time_out(head, event, "No agent took the task within its queue time.", "queue_time", now)


def total_timed_out(head: TaskHead, event: TotalTimedOut, now: float, policy: RetryPolicy) -> Transition:
    return _time_out(head, event, "The task did not end within its total time.", "total_time", now)


def cancel_waiting(head: TaskHead, event: CancelRequested, now: float, policy: RetryPolicy) -> Transition:
    new = replace(head, status=TaskStatus.CANCELLED, detail=TaskDetail.CANCELLED)
    data = {"task_type": head.task_type, "priority": head.priority}
    data["reason"] = "parent_ended" if event.parent_ended else "requested"
    return _decided(head, event, new, (DEQUEUE,), "task.cancelled", now, event.principal, data)


def cancel_running(head: TaskHead, event: CancelRequested, now: float, policy: RetryPolicy) -> Transition:
    """Gives the holder the policy's grace to stop. The lease goes on meanwhile, so that the holder can still report."""
    new = replace(head, detail=TaskDetail.CANCELLING)
    until = now + policy.cancel_grace_s
    data = {"agent_id": head.assigned_agent, "task_type": head.task_type, "revoked_at": until}
    return _decided(head, event, new, (StartGrace(until=until),), "task.cancel_requested", now, event.principal, data)


def cancel_delivered(head: TaskHead, event: CancelDelivered, now: float, policy: RetryPolicy) -> Transition:
    data = {"agent_id": head.assigned_agent, "task_type": head.task_type}
    return _decided(head, event, head, (), "task.cancel_delivered", now, SYSTEM, data)


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
    return _decided(head, event, new, (end_lease,), "task.cancelled", now, principal, data)


def cancel_acknowledged(
    head: TaskHead, event: CancelAcknowledged | Fail, now: float, policy: RetryPolicy
) -> Transition:
    """Ends a task whose holder says that it has stopped. Raises: `Conflict` if the reporter does not hold the lease."""
    _must_hold(head, event.by, event)
    return _cancelled(head, event, "stopped", now, event.by.principal, _report_data(head, event.by, now))


def cancelled_because(reason: str) -> Apply:
    """The function that ends a cancelling task for a reason other than its holder's report."""

    def apply(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
        return _cancelled(head, event, reason, now, SYSTEM, _run_data(head, now))

    return apply


def undelivered_while_cancelling(head: TaskHead, event: Undelivered, now: float, policy: RetryPolicy) -> Transition:
    if not _holds(head, event.by):
        return Transition(head=head)
    by = event.by.principal
    return _cancelled(head, event, "not_delivered", now, by, _run_data(head, now), END_UNDELIVERED)


def unblocked(head: TaskHead, event: Unblocked, now: float, policy: RetryPolicy) -> Transition:
    """Queues a blocked task, or asks its question. ``run_at`` becomes now unless it is later, so that ageing and queue time count
    from here, and the time for an answer."""
    if head.detail is not TaskDetail.BLOCKED:
        return Transition(head=head)
    delayed = head.run_at > now
    run_at = head.run_at if delayed else now
    effect: Effect = Enqueue(not_before=run_at)
    detail = TaskDetail.DELAYED if delayed else TaskDetail.QUEUED
    if head.asking is not None:
        detail, effect = TaskDetail.INPUT_REQUIRED, AwaitAnswer(until=head.asking.until(run_at))
    new = replace(head, detail=detail, run_at=run_at)
    data = {"task_type": head.task_type, "priority": head.priority, "run_at": new.run_at}
    return _decided(head, event, new, (effect,), "task.unblocked", now, SYSTEM, data)


def dependency_failed(head: TaskHead, event: DependencyFailed, now: float, policy: RetryPolicy) -> Transition:
    if head.detail is not TaskDetail.BLOCKED:
        return Transition(head=head)
    error = f"Task {event.after}, which this one runs after, ended as {event.status.value}."
    new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED)
    data = {
        "task_type": head.task_type,
        "priority": head.priority,
        "reason": "dependency_failed",
        "after": event.after,
        "retries_left": 0,
    }
    return _decided(head, event, new, (DEQUEUE,), "task.failed", now, SYSTEM, data, error=error)


def prioritize(head: TaskHead, event: Prioritized, now: float, policy: RetryPolicy) -> Transition:
    priority = head.priority if event.priority is None else int(event.priority)
    if head.priority == priority and event.order_key in (None, head.order_key):
        return Transition(head=head)
    new = replace(head, priority=priority, order_key=event.order_key or head.order_key)
    data = {"task_type": head.task_type, "priority": new.priority, "old_priority": head.priority}
    if event.order_key is not None:
        data["place"] = encode(event.order_key)
    is_queued = head.detail not in (TaskDetail.BLOCKED, TaskDetail.INPUT_REQUIRED, TaskDetail.WAITING_CHILDREN)
    effects = () if not is_queued else (DEQUEUE, Enqueue(not_before=head.run_at))
    return _decided(head, event, new, effects, "task.prioritized", now, event.principal, data)


def asked(head: TaskHead, event: Asked, now: float, policy: RetryPolicy) -> Transition:
    """Ends an attempt whose holder asks people: no lease is held meanwhile, and no retry is spent. It keeps the holder, so that a
    repeated question is recognised.

    Raises: `Conflict` if the asker does not hold the lease."""
    _must_hold(head, event.by, event)
    question = event.question
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.INPUT_REQUIRED,
        run_at=now,
        assigned_agent=None,
        claim_id=None,
        started_at=None,
        asking=question.asking,
        lost=0,
    )
    data = _report_data(head, event.by, now) | question.asking.to_json()
    if question.answerers:
        data["answerers"] = list(question.answerers)
    effects = (END_LEASE, AwaitAnswer(until=question.asking.until(now)))
    private = {"question": question.text[:SUMMARY_CHARS]}
    by = event.by.principal
    return _decided(head, event, new, effects, "task.asked", now, by, data, private=private, question=question)


def parked(head: TaskHead, event: ParkAsked, now: float, policy: RetryPolicy) -> Transition:
    """Ends an attempt whose holder waits for children, as one that asks people ends.

    Raises: `Conflict` if the caller does not hold the lease."""
    _must_hold(head, event.by, event)
    children = event.children
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.WAITING_CHILDREN,
        run_at=now,
        assigned_agent=None,
        claim_id=None,
        started_at=None,
        children=children,
        lost=0,
    )
    data = _report_data(head, event.by, now) | {"children": list(children)}
    effects = (END_LEASE, AwaitChildren())
    return _decided(head, event, new, effects, "task.parked", now, event.by.principal, data, children=children)


def children_ended(head: TaskHead, event: Unblocked, now: float, policy: RetryPolicy) -> Transition:
    """Queues a task again whose children have ended. It keeps the holder, so that a repeat is recognised."""
    new = replace(head, detail=TaskDetail.QUEUED, run_at=now, children=())
    data = {
        "task_type": head.task_type,
        "priority": head.priority,
        "run_at": now,
        "wait_seconds": _since(head.run_at, now),
    }
    return _decided(head, event, new, (Enqueue(not_before=now),), "task.unparked", now, SYSTEM, data)


def answered(head: TaskHead, event: Answered, now: float, policy: RetryPolicy) -> Transition:
    """Takes the answer to the question that the task waits with. Raises: `Conflict` if it is the answer to another one."""
    if event.attempt != head.attempt:
        raise NOT_ASKING.error(head, event)
    return _answered(head, event, event.answer, now)


def input_timed_out(head: TaskHead, event: InputTimedOut, now: float, policy: RetryPolicy) -> Transition:
    """Applies the default answer, or fails a task that has none."""
    asking = head.asking
    assert asking is not None, "what waits for people asks them"
    if asking.has_default:
        return _answered(head, event, Answer(verdict=Verdict.DEFAULT, principal=SYSTEM), now)
    new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED, holder=None, asking=None)
    error = f"Nobody answered its question within {asking.time_limit_s or 0:g} s."
    data = _asked_data(head, now) | {"reason": "input_timeout", "retries_left": 0}
    return _decided(head, event, new, (), "task.failed", now, SYSTEM, data, error=error)


def _asked_data(head: TaskHead, now: float) -> dict[str, Any]:
    return {"task_type": head.task_type, "priority": head.priority, "wait_seconds": _since(head.run_at, now)}


def _answered(head: TaskHead, event: Event, answer: Answer, now: float) -> Transition:
    """The answer to the question of a submit is its task's end; any other is for the next attempt."""
    data, by = _asked_data(head, now) | {"verdict": answer.verdict.value}, answer.principal
    private = {"reason": answer.reason} if answer.reason else None
    if head.attempt > 0:
        new = replace(head, detail=TaskDetail.QUEUED, run_at=now, asking=None)
        effects = (Enqueue(not_before=now),)
        return _decided(head, event, new, effects, "task.answered", now, by, data, private=private, answer=answer)
    if answer.verdict is Verdict.REJECTED:
        new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED, asking=None)
        data |= {"reason": "rejected", "retries_left": 0}
        error = f"Rejected: {answer.reason}" if answer.reason else "Rejected without a reason."
        return _decided(head, event, new, (), "task.failed", now, by, data, error=error, answer=answer)
    new = replace(head, status=TaskStatus.COMPLETED, detail=TaskDetail.COMPLETED, asking=None)
    # A default is words too, and stays with its question, from where the commit takes it.
    result = answer.value_json
    private = None if result is None else {"result_summary": result_summary(result)}
    return _decided(
        head, event, new, (), "task.completed", now, by, data, result_json=result, private=private, answer=answer
    )


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
