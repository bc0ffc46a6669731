"""What each event does to a task that waits: for others, for a person, for children, for its turn. As in ``steps.py``."""

from __future__ import annotations

from typing import Any

from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.log import SYSTEM
from cluster.domain.tasks.deciding import (
    RELEASED,
    SUMMARY_CHARS,
    decided,
    must_hold,
    report_data,
    result_summary,
    since,
)
from cluster.domain.tasks.effects import (
    DEQUEUE,
    END_LEASE,
    AwaitAnswer,
    AwaitChildren,
    Effect,
    Enqueue,
    Transition,
)
from cluster.domain.tasks.events import (
    Answered,
    Asked,
    DependencyFailed,
    Event,
    InputTimedOut,
    ParkAsked,
    Prioritized,
    Unblocked,
)
from cluster.domain.tasks.order_key import encode
from cluster.domain.tasks.questions import Answer, Verdict
from cluster.domain.tasks.refusals import NOT_ASKING
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus


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
    return decided(head, event, new, (effect,), "task.unblocked", now, SYSTEM, data)


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
    return decided(head, event, new, (DEQUEUE,), "task.failed", now, SYSTEM, data, error=error)


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
    return decided(head, event, new, effects, "task.prioritized", now, event.principal, data)


def asked(head: TaskHead, event: Asked, now: float, policy: RetryPolicy) -> Transition:
    """Ends an attempt whose holder asks people: no lease is held meanwhile, and no retry is spent. It keeps the holder, so that a
    repeated question is recognised.

    Raises: `Conflict` if the asker does not hold the lease."""
    must_hold(head, event.by, event)
    question = event.question
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.INPUT_REQUIRED,
        run_at=now,
        asking=question.asking,
        lost=0,
        **RELEASED,
    )
    data = report_data(head, event.by, now) | question.asking.to_json()
    if question.answerers:
        data["answerers"] = list(question.answerers)
    effects = (END_LEASE, AwaitAnswer(until=question.asking.until(now)))
    private = {"question": question.text[:SUMMARY_CHARS]}
    by = event.by.principal
    return decided(head, event, new, effects, "task.asked", now, by, data, private=private, question=question)


def parked(head: TaskHead, event: ParkAsked, now: float, policy: RetryPolicy) -> Transition:
    """Ends an attempt whose holder waits for children, as one that asks people ends.

    Raises: `Conflict` if the caller does not hold the lease."""
    must_hold(head, event.by, event)
    children = event.children
    new = replace(
        head,
        status=TaskStatus.PENDING,
        detail=TaskDetail.WAITING_CHILDREN,
        run_at=now,
        children=children,
        lost=0,
        **RELEASED,
    )
    data = report_data(head, event.by, now) | {"children": list(children)}
    effects = (END_LEASE, AwaitChildren())
    return decided(head, event, new, effects, "task.parked", now, event.by.principal, data, children=children)


def children_ended(head: TaskHead, event: Unblocked, now: float, policy: RetryPolicy) -> Transition:
    """Queues a task again whose children have ended. It keeps the holder, so that a repeat is recognised."""
    new = replace(head, detail=TaskDetail.QUEUED, run_at=now, children=())
    data = {
        "task_type": head.task_type,
        "priority": head.priority,
        "run_at": now,
        "wait_seconds": since(head.run_at, now),
    }
    return decided(head, event, new, (Enqueue(not_before=now),), "task.unparked", now, SYSTEM, data)


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
    return decided(head, event, new, (), "task.failed", now, SYSTEM, data, error=error)


def _asked_data(head: TaskHead, now: float) -> dict[str, Any]:
    return {"task_type": head.task_type, "priority": head.priority, "wait_seconds": since(head.run_at, now)}


def _answered(head: TaskHead, event: Event, answer: Answer, now: float) -> Transition:
    """The answer to the question of a submit is its task's end; any other is for the next attempt."""
    data, by = _asked_data(head, now) | {"verdict": answer.verdict.value}, answer.principal
    private = {"reason": answer.reason} if answer.reason else None
    if head.attempt > 0:
        new = replace(head, detail=TaskDetail.QUEUED, run_at=now, asking=None)
        effects = (Enqueue(not_before=now),)
        return decided(head, event, new, effects, "task.answered", now, by, data, private=private, answer=answer)
    if answer.verdict is Verdict.REJECTED:
        new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED, asking=None)
        data |= {"reason": "rejected", "retries_left": 0}
        error = f"Rejected: {answer.reason}" if answer.reason else "Rejected without a reason."
        return decided(head, event, new, (), "task.failed", now, by, data, error=error, answer=answer)
    new = replace(head, status=TaskStatus.COMPLETED, detail=TaskDetail.COMPLETED, asking=None)
    # A default is words too, and stays with its question, from where the commit takes it.
    result = answer.value_json
    private = None if result is None else {"result_summary": result_summary(result)}
    return decided(
        head, event, new, (), "task.completed", now, by, data, result_json=result, private=private, answer=answer
    )
