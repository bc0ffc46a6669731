"""The task's state machine: a table of rules, and ``step`` that looks one up and applies it.

Rules of this world:

- A task is what its ``TaskHead`` says. ``step(head, event, now, policy)`` gives the next head, the decision that
  makes it durable (None where nothing changes, as for a repeated report) and effects on the queue and the leases.
- ``TRANSITIONS`` has a row for every pair of phase and event. A row either names what may follow, or the refusal that
  the caller deserves. Docs and tests read the same rows.
- Terminal phases never change. A refusal raises and leaves the head as it was.
- ``attempt`` counts claims and only grows: it is the fence between holders. ``retries`` counts attempts that ended
  badly: reported failures, run time exceeded, leases that expired. ``max_retries`` is how many of those are followed
  by another attempt, so a task is tried at most ``max_retries + 1`` times. An attempt that was never delivered, and
  one whose agent was taken away on purpose (deregistered), cost no retry.
- Run time exceeded counts as a failed attempt (as Temporal's start-to-close timeout does): it is retried, and without
  retries left the task ends as ``timeout``. Queue time or total time exceeded ends it as ``timeout`` at once.
- ``holder`` on a task that is not running is the principal whose own report ended the last attempt, and None if the
  attempt was taken away. That is how a repeated report, which is answered like the first, is told from a zombie's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from cluster.domain.errors import Conflict, ControlPlaneError, ImpossibleTransition
from cluster.domain.log import SYSTEM, LogRecord
from cluster.domain.places import Place, encode
from cluster.domain.tasks import Priority, TaskDecision, TaskDetail, TaskHead, TaskStatus
from cluster.domain.values import compact
from cluster.domain.values import evolve as replace

SUMMARY_CHARS = 200


class Phase(StrEnum):
    """The rows of the table: the wire's statuses, with a running task that is being cancelled told apart."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


TERMINAL = (Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED, Phase.TIMEOUT)
_PHASE_OF_STATUS = {status: Phase(status.value) for status in TaskStatus}


def phase_of(head: TaskHead) -> Phase:
    if head.detail is TaskDetail.CANCELLING:
        return Phase.CANCELLING
    return _PHASE_OF_STATUS[head.status]


# --- policy -----------------------------------------------------------------------------------------------------------


class ErrorClass(StrEnum):
    RETRYABLE = "retryable"
    NOT_RETRYABLE = "not_retryable"
    RATE_LIMITED = "rate_limited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``base_s * factor ** (n - 1)`` before the n-th retry, at most ``cap_s``; ``jitter`` is the share taken away at
    random, so that tasks that failed together do not come back together."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    jitter: float = 0.5

    def delay_s(self, retry: int, seed: str) -> float:
        """The same for the same seed: a decision that is made again after a restart is the same decision."""
        exponent = min(retry - 1, 64)
        full = min(self.cap_s, self.base_s * self.factor**exponent)
        digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
        return full * (1.0 - self.jitter * int.from_bytes(digest, "big") / 2**64)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """``rate_limited`` has its own clock: the peer's ``retry_after_s`` where it names one, else slower steps."""

    retryable: Backoff = field(default_factory=Backoff)
    rate_limited: Backoff = field(default_factory=lambda: Backoff(base_s=15.0, cap_s=900.0))
    cancel_grace_s: float = 10.0

    def delay_s(self, head: TaskHead, error_class: ErrorClass, retry_after_s: float | None) -> float:
        """Before the retry that follows the present attempt of ``head``."""
        backoff = self.rate_limited if error_class is ErrorClass.RATE_LIMITED else self.retryable
        delay = backoff.delay_s(head.retries + 1, f"{head.id}/{head.attempt}")
        return delay if retry_after_s is None else max(delay, min(retry_after_s, backoff.cap_s))


# --- events -----------------------------------------------------------------------------------------------------------


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports on an attempt. ``attempt`` and ``agent_id`` come from the lease token; without a token ``attempt``
    is None, and the report counts for the current attempt if its principal is the one that claimed."""

    principal: str
    agent_id: str | None = None
    attempt: int | None = None

    @property
    def fenced(self) -> bool:
        return self.attempt is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``cause`` says to readers of the table who or what brings the event."""

    cause: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAtReached(Event):
    cause: ClassVar[str] = "timer: `run_at` or the end of a backoff"


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Event):
    cause: ClassVar[str] = "an agent claims"
    agent_id: str
    claim_id: str
    principal: str
    want_body: bool = False


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(Event):
    cause: ClassVar[str] = "the holder reports a result"
    by: Reporter
    result_json: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Event):
    """``requeue`` false: the holder says that another attempt is of no use."""

    cause: ClassVar[str] = "the holder reports a failure"
    by: Reporter
    error: str
    error_class: ErrorClass = ErrorClass.RETRYABLE
    requeue: bool = True
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    cause: ClassVar[str] = "a client cancels"
    principal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDelivered(Event):
    cause: ClassVar[str] = "the holder was told (heartbeat, claim or stream message)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAcknowledged(Event):
    cause: ClassVar[str] = "the holder says that it has stopped"
    by: Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelGraceOver(Event):
    cause: ClassVar[str] = "timer: the holder had its time to stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseExpired(Event):
    cause: ClassVar[str] = "timer: no sign of life from the holder"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(Event):
    cause: ClassVar[str] = "timer: run time exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTimedOut(Event):
    cause: ClassVar[str] = "timer: queue time exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalTimedOut(Event):
    cause: ClassVar[str] = "timer: total time exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLost(Event):
    """``deliberate``: somebody took the agent away (deregistered it), so the task is not to blame."""

    cause: ClassVar[str] = "the holder is gone (offline or deregistered)"
    deliberate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Event):
    """The claimant was gone when its lease was granted: the attempt was never delivered."""

    cause: ClassVar[str] = "a lease that nobody received is given back"
    by: Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblocked(Event):
    cause: ClassVar[str] = "every task that it runs after has ended as it needs"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyFailed(Event):
    """``after`` ended as ``status``, without a result."""

    cause: ClassVar[str] = "a task that it runs after ended without a result, and its edge says `fail`"
    after: str
    status: TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Prioritized(Event):
    """What is None stays as it is."""

    cause: ClassVar[str] = "a client changes the priority, or the place in line"
    principal: str
    priority: Priority | None = None
    place: Place | None = None


# --- what a step gives ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """Into the queue, not to be claimed before ``not_before`` (epoch seconds)."""

    not_before: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequeue:
    """Out of the queue, whether by a claim or for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLease:
    """The new head names the holder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLease:
    """Whoever held it holds nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGrace:
    """The holder is to be told to stop; what it still holds at ``until`` is revoked."""

    until: float


Effect = Enqueue | Dequeue | StartLease | EndLease | StartGrace


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    head: TaskHead
    decision: TaskDecision | None = None
    effects: tuple[Effect, ...] = ()


_DEQUEUE, _START_LEASE, _END_LEASE = Dequeue(), StartLease(), EndLease()

Apply = Callable[[TaskHead, Any, float, RetryPolicy], Transition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: phases that may follow, kinds of log rows that it may write, and what a reader should know."""

    apply: Apply
    to: tuple[Phase, ...]
    kinds: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """``code`` None: no caller can cause this, it is a bug of ours (ImpossibleTransition)."""

    code: str | None = None
    message: str = ""

    def error(self, head: TaskHead, event: Event) -> ControlPlaneError:
        if self.code is None:
            return ImpossibleTransition(
                f"Task {head.id} is {phase_of(head)}; {type(event).__name__} cannot happen to it."
            )
        return Conflict(self.message.format(id=head.id, status=head.status.value), self.code)


LEASE_LOST = Refusal(code="lease_lost", message="The lease on task {id} is not yours (any more); the task is {status}.")
ALREADY_TERMINAL = Refusal(code="already_terminal", message="Task {id} is already {status}.")
NOT_PENDING = Refusal(code="not_pending", message="Task {id} is {status}; only a waiting task can be prioritised.")
IMPOSSIBLE = Refusal()


def step(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
    """Applies the rule for ``event``; ``now`` in epoch seconds. Raises Conflict (the caller's fault) or
    ImpossibleTransition (ours)."""
    rule = TRANSITIONS[phase_of(head), type(event)]
    if isinstance(rule, Refusal):
        raise rule.error(head, event)
    return rule.apply(head, event, now, policy)


# --- the rules --------------------------------------------------------------------------------------------------------


def _decided(
    old: TaskHead,
    new: TaskHead,
    effects: tuple[Effect, ...],
    kind: str,
    now: float,
    principal: str,
    data: Mapping[str, Any],
    *,
    result_json: str | None = None,
    error: str | None = None,
    want_body: bool = False,
) -> Transition:
    record = LogRecord(
        at=now, workspace=old.workspace, kind=kind, entity=old.id, attempt=new.attempt, principal=principal, data=data
    )
    decision = TaskDecision(
        head=new,
        expect_status=old.status,
        expect_attempt=old.attempt,
        record=record,
        completed_at=now if new.status.terminal else None,
        result_json=result_json,
        error=error,
        want_body=want_body,
    )
    return Transition(head=new, decision=decision, effects=effects)


def _unchanged(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
    return Transition(head=head)


def _run_at_reached(head: TaskHead, event: RunAtReached, now: float, policy: RetryPolicy) -> Transition:
    """Not written: readers see from ``run_at`` that a delay is over."""
    return Transition(head=replace(head, detail=TaskDetail.QUEUED), effects=(Enqueue(not_before=head.run_at),))


def _claim(head: TaskHead, event: Claim, now: float, policy: RetryPolicy) -> Transition:
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
    effects = (_DEQUEUE, _START_LEASE)
    return _decided(head, new, effects, "task.claimed", now, event.principal, data, want_body=event.want_body)


def _holds(head: TaskHead, by: Reporter) -> bool:
    if by.attempt is not None:
        return by.attempt == head.attempt and by.agent_id == head.assigned_agent
    return by.principal == head.holder and by.agent_id in (None, head.assigned_agent)


def _ended_it(head: TaskHead, by: Reporter) -> bool:
    """``by`` is the holder whose own report ended the last attempt."""
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
    """The first characters of a result as a person would read it: text without quotes, anything else as JSON."""
    if result_json is None:
        return ""
    if result_json.startswith('"'):
        return str(json.loads(result_json))[:SUMMARY_CHARS]
    return result_json[:SUMMARY_CHARS]


def _complete(head: TaskHead, event: Complete, now: float, policy: RetryPolicy) -> Transition:
    _must_hold(head, event.by, event)
    new = replace(head, status=TaskStatus.COMPLETED, detail=TaskDetail.COMPLETED)
    data = _report_data(head, event.by, now)
    data["result_summary"] = result_summary(event.result_json)
    return _decided(
        head,
        new,
        (_END_LEASE,),
        "task.completed",
        now,
        event.by.principal,
        data,
        result_json=event.result_json,
    )


def _fail(head: TaskHead, event: Fail, now: float, policy: RetryPolicy) -> Transition:
    _must_hold(head, event.by, event)
    data = _report_data(head, event.by, now)
    data["error_class"] = event.error_class.value
    by = event.by.principal
    if not event.requeue or event.error_class is ErrorClass.NOT_RETRYABLE:
        data.update(error=_short(event.error), retries_left=0)
        new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED)
        return _decided(head, new, (_END_LEASE,), "task.failed", now, by, data, error=event.error)
    if head.retries >= head.max_retries:
        return _dead_letter(head, data, event.error, "retries_exhausted", now, by, holder=head.holder)
    delay_s = policy.delay_s(head, event.error_class, event.retry_after_s)
    return _retry(head, data, event.error, "failed", now, by, delay_s, holder=head.holder)


def _short(error: str) -> str:
    """Log rows travel to every follower; the whole text is in the task's row."""
    return error[:1000]


def _retry(
    head: TaskHead,
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
    )
    data.update(
        error=_short(error),
        reason=reason,
        retries_left=head.max_retries - new.retries,
        run_at=new.run_at,
        delay_seconds=round(delay_s, 6),
    )
    effects = (_END_LEASE, Enqueue(not_before=new.run_at))
    return _decided(head, new, effects, "task.retried", now, principal, data, error=error)


def _dead_letter(
    head: TaskHead,
    data: dict[str, Any],
    error: str,
    reason: str,
    now: float,
    principal: str,
    *,
    holder: str | None = None,
) -> Transition:
    new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.DEAD_LETTERED, holder=holder)
    data.update(error=_short(error), reason=reason, retries_left=0)
    return _decided(head, new, (_END_LEASE,), "task.dead_lettered", now, principal, data, error=error)


def _requeue(head: TaskHead, reason: str, now: float, principal: str, *, charged: bool) -> Transition:
    """Back to its old place (``run_at`` stays), at once: another agent can take it."""
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
    effects = (_END_LEASE, Enqueue(not_before=head.run_at))
    return _decided(head, new, effects, "task.requeued", now, principal, data)


def _lost(head: TaskHead, error: str, reason: str, now: float) -> Transition:
    if head.retries >= head.max_retries:
        return _dead_letter(head, _run_data(head, now), error, reason, now, SYSTEM)
    return _requeue(head, reason, now, SYSTEM, charged=True)


def _lease_expired(head: TaskHead, event: LeaseExpired, now: float, policy: RetryPolicy) -> Transition:
    error = f"Agent {head.assigned_agent} gave no sign of life and lost its lease on attempt {head.attempt}."
    return _lost(head, error, "lease_expired", now)


def _agent_lost(head: TaskHead, event: AgentLost, now: float, policy: RetryPolicy) -> Transition:
    if event.deliberate:
        return _requeue(head, "agent_unregistered", now, SYSTEM, charged=False)
    return _lost(head, f"Agent {head.assigned_agent} went offline during attempt {head.attempt}.", "agent_offline", now)


def _release(head: TaskHead, event: Release, now: float, policy: RetryPolicy) -> Transition:
    if not _holds(head, event.by):
        return Transition(head=head)
    return _requeue(head, "not_delivered", now, event.by.principal, charged=False)


def _run_timed_out(head: TaskHead, event: RunTimedOut, now: float, policy: RetryPolicy) -> Transition:
    error = f"Attempt {head.attempt} did not finish within {head.timeout_s:g} s."
    if head.retries >= head.max_retries:
        return _time_out(head, error, "run_time", now)
    delay_s = policy.delay_s(head, ErrorClass.RETRYABLE, None)
    return _retry(head, _run_data(head, now), error, "run_timeout", now, SYSTEM, delay_s)


def _time_out(head: TaskHead, error: str, reason: str, now: float) -> Transition:
    waiting = head.status is TaskStatus.PENDING
    new = replace(head, status=TaskStatus.TIMEOUT, detail=TaskDetail.TIMEOUT, holder=None)
    data = _run_data(head, now)
    data.update(error=error, reason=reason, retries_left=0)
    effects: tuple[Effect, ...] = (_DEQUEUE,) if waiting else (_END_LEASE,)
    return _decided(head, new, effects, "task.timeout", now, SYSTEM, data, error=error)


def _queue_timed_out(head: TaskHead, event: QueueTimedOut, now: float, policy: RetryPolicy) -> Transition:
    return _time_out(head, "No agent took the task within its queue time.", "queue_time", now)


def _total_timed_out(head: TaskHead, event: TotalTimedOut, now: float, policy: RetryPolicy) -> Transition:
    return _time_out(head, "The task did not end within its total time.", "total_time", now)


def _cancel_waiting(head: TaskHead, event: CancelRequested, now: float, policy: RetryPolicy) -> Transition:
    new = replace(head, status=TaskStatus.CANCELLED, detail=TaskDetail.CANCELLED)
    data = {"task_type": head.task_type, "priority": head.priority, "reason": "requested"}
    return _decided(head, new, (_DEQUEUE,), "task.cancelled", now, event.principal, data)


def _cancel_running(head: TaskHead, event: CancelRequested, now: float, policy: RetryPolicy) -> Transition:
    new = replace(head, detail=TaskDetail.CANCELLING)
    until = now + policy.cancel_grace_s
    data = {"agent_id": head.assigned_agent, "task_type": head.task_type, "revoked_at": until}
    return _decided(head, new, (StartGrace(until=until),), "task.cancel_requested", now, event.principal, data)


def _cancel_delivered(head: TaskHead, event: CancelDelivered, now: float, policy: RetryPolicy) -> Transition:
    data = {"agent_id": head.assigned_agent, "task_type": head.task_type}
    return _decided(head, head, (), "task.cancel_delivered", now, SYSTEM, data)


def _stopped(head: TaskHead, reason: str, now: float, principal: str, data: dict[str, Any]) -> Transition:
    """``stopped by the holder`` keeps the holder, so that it can repeat itself; any other reason takes it away."""
    holder = head.holder if reason == "stopped" else None
    new = replace(head, status=TaskStatus.CANCELLED, detail=TaskDetail.CANCELLED, holder=holder)
    data["reason"] = reason
    return _decided(head, new, (_END_LEASE,), "task.cancelled", now, principal, data)


def _cancel_acknowledged(
    head: TaskHead, event: CancelAcknowledged | Fail, now: float, policy: RetryPolicy
) -> Transition:
    _must_hold(head, event.by, event)
    return _stopped(head, "stopped", now, event.by.principal, _report_data(head, event.by, now))


def _stopped_because(reason: str) -> Apply:
    def apply(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
        return _stopped(head, reason, now, SYSTEM, _run_data(head, now))

    return apply


def _release_cancelling(head: TaskHead, event: Release, now: float, policy: RetryPolicy) -> Transition:
    if not _holds(head, event.by):
        return Transition(head=head)
    return _stopped(head, "not_delivered", now, event.by.principal, _run_data(head, now))


def _unblocked(head: TaskHead, event: Unblocked, now: float, policy: RetryPolicy) -> Transition:
    """Its wait begins now, so ageing and queue time count from here."""
    if head.detail is not TaskDetail.BLOCKED:
        return Transition(head=head)
    delayed = head.run_at > now
    new = replace(
        head,
        detail=TaskDetail.DELAYED if delayed else TaskDetail.QUEUED,
        run_at=head.run_at if delayed else now,
    )
    data = {"task_type": head.task_type, "priority": head.priority, "run_at": new.run_at}
    return _decided(head, new, (Enqueue(not_before=new.run_at),), "task.unblocked", now, SYSTEM, data)


def _dependency_failed(head: TaskHead, event: DependencyFailed, now: float, policy: RetryPolicy) -> Transition:
    if head.detail is not TaskDetail.BLOCKED:
        return Transition(head=head)
    error = f"Task {event.after}, which this one runs after, ended as {event.status.value}."
    new = replace(head, status=TaskStatus.FAILED, detail=TaskDetail.FAILED)
    data = {
        "task_type": head.task_type,
        "priority": head.priority,
        "error": error,
        "reason": "dependency_failed",
        "after": event.after,
        "retries_left": 0,
    }
    return _decided(head, new, (_DEQUEUE,), "task.failed", now, SYSTEM, data, error=error)


def _prioritize(head: TaskHead, event: Prioritized, now: float, policy: RetryPolicy) -> Transition:
    priority = head.priority if event.priority is None else int(event.priority)
    if head.priority == priority and event.place in (None, head.place):
        return Transition(head=head)
    new = replace(head, priority=priority, place=event.place or head.place)
    data = {"task_type": head.task_type, "priority": new.priority, "old_priority": head.priority}
    if event.place is not None:
        data["place"] = encode(event.place)
    blocked = head.detail is TaskDetail.BLOCKED
    effects = () if blocked else (_DEQUEUE, Enqueue(not_before=head.run_at))
    return _decided(head, new, effects, "task.prioritized", now, event.principal, data)


def _repeat_or(refusal: Refusal) -> Apply:
    """A report after the attempt has ended: answered like the first if it is the first again."""

    def apply(
        head: TaskHead, event: Complete | Fail | CancelAcknowledged, now: float, policy: RetryPolicy
    ) -> Transition:
        if _ended_it(head, event.by):
            return Transition(head=head)
        raise refusal.error(head, event)

    return apply


def _other_end(head: TaskHead, event: Complete | Fail, now: float, policy: RetryPolicy) -> Transition:
    """The holder now says the opposite of what it said before."""
    refusal = ALREADY_TERMINAL if _ended_it(head, event.by) else LEASE_LOST
    raise refusal.error(head, event)


# --- the table --------------------------------------------------------------------------------------------------------

_REPEAT = "the holder that ended the attempt is answered as before; anybody else 409 `lease_lost`"
_OPPOSITE = "409 `already_terminal` for the holder that ended it, else `lease_lost`"
_repeated = _repeat_or(LEASE_LOST)
P = Phase

_ENDS_ATTEMPT: dict[type[Event], Rule] = {
    Complete: Rule(apply=_complete, to=(P.COMPLETED,), kinds=("task.completed",), note="wrong holder 409 `lease_lost`"),
    Fail: Rule(
        apply=_fail,
        to=(P.PENDING, P.FAILED),
        kinds=("task.retried", "task.failed", "task.dead_lettered"),
        note="retried with backoff while retries are left, then dead-lettered; not retryable: failed; wrong holder 409",
    ),
    LeaseExpired: Rule(
        apply=_lease_expired,
        to=(P.PENDING, P.FAILED),
        kinds=("task.requeued", "task.dead_lettered"),
        note="costs a retry; back to its old place at once; dead-lettered without retries left",
    ),
    AgentLost: Rule(
        apply=_agent_lost,
        to=(P.PENDING, P.FAILED),
        kinds=("task.requeued", "task.dead_lettered"),
        note="offline: as an expired lease; deregistered: costs no retry",
    ),
    RunTimedOut: Rule(
        apply=_run_timed_out,
        to=(P.PENDING, P.TIMEOUT),
        kinds=("task.retried", "task.timeout"),
        note="a failed attempt; `timeout` without retries left",
    ),
    TotalTimedOut: Rule(apply=_total_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    Release: Rule(
        apply=_release, to=(P.PENDING,), kinds=("task.requeued",), note="costs no retry; ignored from anybody else"
    ),
    CancelRequested: Rule(
        apply=_cancel_running,
        to=(P.CANCELLING,),
        kinds=("task.cancel_requested",),
        note="the holder is told and has a grace to stop",
    ),
}

_ENDS_CANCELLING: dict[type[Event], Rule] = {
    Complete: Rule(
        apply=_complete, to=(P.COMPLETED,), kinds=("task.completed",), note="it finished first: the result is kept"
    ),
    Fail: Rule(
        apply=_cancel_acknowledged, to=(P.CANCELLED,), kinds=("task.cancelled",), note="taken as having stopped"
    ),
    CancelRequested: Rule(apply=_unchanged, to=(), note="answered as before"),
    CancelDelivered: Rule(apply=_cancel_delivered, to=(P.CANCELLING,), kinds=("task.cancel_delivered",)),
    CancelAcknowledged: Rule(apply=_cancel_acknowledged, to=(P.CANCELLED,), kinds=("task.cancelled",)),
    CancelGraceOver: Rule(apply=_stopped_because("grace_over"), to=(P.CANCELLED,), kinds=("task.cancelled",)),
    LeaseExpired: Rule(apply=_stopped_because("lease_expired"), to=(P.CANCELLED,), kinds=("task.cancelled",)),
    AgentLost: Rule(apply=_stopped_because("agent_lost"), to=(P.CANCELLED,), kinds=("task.cancelled",)),
    RunTimedOut: Rule(apply=_stopped_because("run_timeout"), to=(P.CANCELLED,), kinds=("task.cancelled",)),
    TotalTimedOut: Rule(apply=_stopped_because("total_timeout"), to=(P.CANCELLED,), kinds=("task.cancelled",)),
    Release: Rule(apply=_release_cancelling, to=(P.CANCELLED,), kinds=("task.cancelled",)),
}

_LEAVES_QUEUE: dict[type[Event], Rule | Refusal] = {
    RunAtReached: Rule(apply=_run_at_reached, to=(P.PENDING,), note="not written; readers see it from `run_at`"),
    Claim: Rule(apply=_claim, to=(P.RUNNING,), kinds=("task.claimed",), note="attempt + 1, a new lease"),
    CancelRequested: Rule(apply=_cancel_waiting, to=(P.CANCELLED,), kinds=("task.cancelled",)),
    Prioritized: Rule(apply=_prioritize, to=(P.PENDING,), kinds=("task.prioritized",)),
    QueueTimedOut: Rule(apply=_queue_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    TotalTimedOut: Rule(apply=_total_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    Unblocked: Rule(
        apply=_unblocked, to=(P.PENDING,), kinds=("task.unblocked",), note="`blocked` becomes `queued` or `delayed`"
    ),
    DependencyFailed: Rule(apply=_dependency_failed, to=(P.FAILED,), kinds=("task.failed",), note="only if `blocked`"),
    Release: Rule(apply=_unchanged, to=(), note="already given back"),
    Complete: LEASE_LOST,
    Fail: Rule(apply=_repeated, to=(), note=_REPEAT),
    CancelAcknowledged: LEASE_LOST,
}

_AFTER_THE_END: dict[type[Event], Rule | Refusal] = {
    Complete: Rule(apply=_other_end, to=(), note=_OPPOSITE),
    Fail: Rule(apply=_other_end, to=(), note=_OPPOSITE),
    CancelAcknowledged: LEASE_LOST,
    CancelRequested: ALREADY_TERMINAL,
    Release: Rule(apply=_unchanged, to=(), note="ignored"),
    Prioritized: NOT_PENDING,
}
_REPEATED = Rule(apply=_repeated, to=(), note=_REPEAT)

_ROWS: dict[Phase, Mapping[type[Event], Rule | Refusal]] = {
    P.PENDING: _LEAVES_QUEUE,
    P.RUNNING: {**_ENDS_ATTEMPT, CancelAcknowledged: LEASE_LOST, Prioritized: NOT_PENDING},
    P.CANCELLING: {**_ENDS_CANCELLING, Prioritized: NOT_PENDING},
    P.COMPLETED: {**_AFTER_THE_END, Complete: _REPEATED},
    P.FAILED: {**_AFTER_THE_END, Fail: _REPEATED},
    P.CANCELLED: {
        **_AFTER_THE_END,
        Fail: _REPEATED,
        CancelAcknowledged: _REPEATED,
        CancelRequested: Rule(apply=_unchanged, to=(), note="answered as before"),
    },
    P.TIMEOUT: _AFTER_THE_END,
}

EVENTS: tuple[type[Event], ...] = (
    Unblocked,
    DependencyFailed,
    RunAtReached,
    Claim,
    Complete,
    Fail,
    Release,
    LeaseExpired,
    AgentLost,
    RunTimedOut,
    QueueTimedOut,
    TotalTimedOut,
    CancelRequested,
    CancelDelivered,
    CancelAcknowledged,
    CancelGraceOver,
    Prioritized,
)

#: Every pair of phase and event; what no row above names cannot happen.
TRANSITIONS: dict[tuple[Phase, type[Event]], Rule | Refusal] = {
    (phase, event): rows.get(event, IMPOSSIBLE) for phase, rows in _ROWS.items() for event in EVENTS
}
