"""The task's state machine: a table of rules, and ``step`` that looks one up and applies it.

Rules of this world:

- The state of a task is its ``TaskHead``. ``step(head, event, now, policy)`` returns the next head, the decision that makes
  it durable (None if there is nothing to write, as for a repeated report), and effects on the queue and the leases.
- ``TRANSITIONS`` has a row for every pair of phase and event. A row names either the phases that may follow, or the
  refusal for the caller. Docs and tests read the same rows.
- Terminal phases never change. A refusal raises and leaves the head as it was.
- ``attempt`` counts claims and only grows: it is the fence between holders. ``retries`` counts attempts that ended
  badly: reported failures, run time exceeded, leases that expired, agents that went offline. ``max_retries`` is how many of
  those are followed by another attempt, so at most ``max_retries + 1`` attempts end badly. An attempt that was never
  delivered, one that its holder gave back, and one whose agent was deregistered, cost no retry.
- Run time exceeded counts as a failed attempt (as Temporal's start-to-close timeout does): it is retried, and without
  retries left the task ends as ``timeout``. Queue time or total time exceeded ends it as ``timeout`` at once.
- A task that waits for people has no lease, and nothing but its total time and the time for the answer goes on. One that waits
  for its children is alike, and has no time but its total.
- ``holder`` of a task that is not running is the principal whose own report ended the last attempt, and None if the
  attempt ended otherwise. A repeated report of that principal is answered like the first; any other late report is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.domain.tasks import cancel_steps, steps, waiting_steps
from cluster.domain.tasks.deciding import unchanged
from cluster.domain.tasks.effects import Apply, Transition
from cluster.domain.tasks.events import (
    AgentLost,
    Answered,
    Asked,
    CancelAcknowledged,
    CancelDelivered,
    CancelGraceOver,
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
    RunAtReached,
    RunTimedOut,
    TotalTimedOut,
    Unblocked,
    Undelivered,
)
from cluster.domain.tasks.phases import TaskPhase, phase_of
from cluster.domain.tasks.refusals import ALREADY_TERMINAL, IMPOSSIBLE, LEASE_LOST, NOT_ASKING, NOT_PENDING, Refusal
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskHead


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRule:
    """One row of the table: what applies the event, the phases that may follow, the kinds of log rows that it may write, and a
    note for readers."""

    apply: Apply
    to: tuple[TaskPhase, ...]
    kinds: tuple[str, ...] = ()
    note: str = ""


def step(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
    """Applies the rule for ``event``. ``now`` is in epoch seconds.

    Raises: `Conflict` if the task's phase does not allow the event, or another holds the lease; `ImpossibleTransition` if the
    event cannot happen in this phase, which is our own bug."""
    rule = TRANSITIONS[phase_of(head), type(event)]
    if isinstance(rule, Refusal):
        raise rule.error(head, event)
    return rule.apply(head, event, now, policy)


_REPEAT = "the holder that ended the attempt is answered as before; anybody else gets 409 `lease_lost`"
_OPPOSITE = "409 `already_terminal` for the holder that ended it, else 409 `lease_lost`"
_repeated = steps.repeat_or(LEASE_LOST)
P = TaskPhase

_ENDS_ATTEMPT: dict[type[Event], TransitionRule | Refusal] = {
    Complete: TransitionRule(
        apply=steps.complete, to=(P.COMPLETED,), kinds=("task.completed",), note="wrong holder 409 `lease_lost`"
    ),
    Fail: TransitionRule(
        apply=steps.fail,
        to=(P.PENDING, P.FAILED),
        kinds=("task.retried", "task.failed", "task.dead_lettered", "task.requeued"),
        note="retried with backoff while retries are left, then dead-lettered; not retryable: failed; "
        "given back (`released`): queued again, costs no retry; wrong holder 409 `lease_lost`",
    ),
    LeaseExpired: TransitionRule(
        apply=steps.lease_expired,
        to=(P.PENDING, P.FAILED),
        kinds=("task.requeued", "task.dead_lettered"),
        note="costs a retry; queued again at once, in its old order; dead-lettered if no retry is left, or it is the third "
        "in a row (`kills_workers`)",
    ),
    AgentLost: TransitionRule(
        apply=steps.agent_lost,
        to=(P.PENDING, P.FAILED),
        kinds=("task.requeued", "task.dead_lettered"),
        note="offline: like an expired lease; deregistered: costs no retry",
    ),
    RunTimedOut: TransitionRule(
        apply=steps.run_timed_out,
        to=(P.PENDING, P.TIMEOUT),
        kinds=("task.retried", "task.timeout"),
        note="counts as a failed attempt; `timeout` if no retry is left",
    ),
    TotalTimedOut: TransitionRule(apply=steps.total_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    Undelivered: TransitionRule(
        apply=steps.undelivered,
        to=(P.PENDING,),
        kinds=("task.requeued",),
        note="costs no retry; ignored from anybody else",
    ),
    CancelRequested: TransitionRule(
        apply=cancel_steps.cancel_running,
        to=(P.CANCELLING,),
        kinds=("task.cancel_requested",),
        note="the holder is asked to stop within a grace",
    ),
    Asked: TransitionRule(
        apply=waiting_steps.asked,
        to=(P.INPUT_REQUIRED,),
        kinds=("task.asked",),
        note="the lease ends, no retry is spent; wrong holder 409 `lease_lost`",
    ),
    ParkAsked: TransitionRule(
        apply=waiting_steps.parked,
        to=(P.WAITING_CHILDREN,),
        kinds=("task.parked",),
        note="the lease ends, no retry is spent; wrong holder 409 `lease_lost`",
    ),
    Answered: NOT_ASKING,
}

_ENDS_CANCELLING: dict[type[Event], TransitionRule | Refusal] = {
    Complete: TransitionRule(
        apply=steps.complete, to=(P.COMPLETED,), kinds=("task.completed",), note="it finished first: the result is kept"
    ),
    Fail: TransitionRule(
        apply=cancel_steps.cancel_acknowledged,
        to=(P.CANCELLED,),
        kinds=("task.cancelled",),
        note="counts as having stopped",
    ),
    CancelRequested: TransitionRule(apply=unchanged, to=(), note="answered as before"),
    CancelDelivered: TransitionRule(
        apply=cancel_steps.cancel_delivered, to=(P.CANCELLING,), kinds=("task.cancel_delivered",)
    ),
    CancelAcknowledged: TransitionRule(
        apply=cancel_steps.cancel_acknowledged, to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    CancelGraceOver: TransitionRule(
        apply=cancel_steps.cancelled_because("grace_over"), to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    LeaseExpired: TransitionRule(
        apply=cancel_steps.cancelled_because("lease_expired"), to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    AgentLost: TransitionRule(
        apply=cancel_steps.cancelled_because("agent_lost"), to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    RunTimedOut: TransitionRule(
        apply=cancel_steps.cancelled_because("run_timeout"), to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    TotalTimedOut: TransitionRule(
        apply=cancel_steps.cancelled_because("total_timeout"), to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    Undelivered: TransitionRule(
        apply=cancel_steps.undelivered_while_cancelling, to=(P.CANCELLED,), kinds=("task.cancelled",)
    ),
    Asked: TransitionRule(
        apply=cancel_steps.cancel_acknowledged,
        to=(P.CANCELLED,),
        kinds=("task.cancelled",),
        note="counts as having stopped",
    ),
    ParkAsked: TransitionRule(
        apply=cancel_steps.cancel_acknowledged,
        to=(P.CANCELLED,),
        kinds=("task.cancelled",),
        note="counts as having stopped",
    ),
    Answered: NOT_ASKING,
}

_LEAVES_QUEUE: dict[type[Event], TransitionRule | Refusal] = {
    RunAtReached: TransitionRule(
        apply=steps.run_at_reached, to=(P.PENDING,), note="not written; readers see it from `run_at`"
    ),
    Claim: TransitionRule(apply=steps.claim, to=(P.RUNNING,), kinds=("task.claimed",), note="attempt + 1, a new lease"),
    CancelRequested: TransitionRule(apply=cancel_steps.cancel_waiting, to=(P.CANCELLED,), kinds=("task.cancelled",)),
    Prioritized: TransitionRule(apply=waiting_steps.prioritize, to=(P.PENDING,), kinds=("task.prioritized",)),
    QueueTimedOut: TransitionRule(apply=steps.queue_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    TotalTimedOut: TransitionRule(apply=steps.total_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    Unblocked: TransitionRule(
        apply=waiting_steps.unblocked,
        to=(P.PENDING, P.INPUT_REQUIRED),
        kinds=("task.unblocked",),
        note="`blocked` becomes `queued` or `delayed`, or asks the question that it was submitted with",
    ),
    DependencyFailed: TransitionRule(
        apply=waiting_steps.dependency_failed, to=(P.FAILED,), kinds=("task.failed",), note="only if `blocked`"
    ),
    Undelivered: TransitionRule(apply=unchanged, to=(), note="ignored: the lease has ended already"),
    Complete: LEASE_LOST,
    Fail: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    CancelAcknowledged: LEASE_LOST,
    Asked: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    ParkAsked: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    Answered: NOT_ASKING,
}

_WAITS_FOR_PEOPLE: dict[type[Event], TransitionRule | Refusal] = {
    Answered: TransitionRule(
        apply=waiting_steps.answered,
        to=(P.PENDING, P.COMPLETED, P.FAILED),
        kinds=("task.answered", "task.completed", "task.failed"),
        note="the question of a submit: the answer is the result, a rejection fails the task; that of a holder: queued again",
    ),
    InputTimedOut: TransitionRule(
        apply=waiting_steps.input_timed_out,
        to=(P.PENDING, P.COMPLETED, P.FAILED),
        kinds=("task.answered", "task.completed", "task.failed"),
        note="the default answer applies; without one the task fails (`input_timeout`)",
    ),
    CancelRequested: TransitionRule(apply=cancel_steps.cancel_waiting, to=(P.CANCELLED,), kinds=("task.cancelled",)),
    Prioritized: TransitionRule(apply=waiting_steps.prioritize, to=(P.INPUT_REQUIRED,), kinds=("task.prioritized",)),
    TotalTimedOut: TransitionRule(apply=steps.total_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    Undelivered: TransitionRule(apply=unchanged, to=(), note="ignored: the lease has ended already"),
    Complete: LEASE_LOST,
    Fail: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    CancelAcknowledged: LEASE_LOST,
    Asked: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    ParkAsked: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
}

_WAITS_FOR_CHILDREN: dict[type[Event], TransitionRule | Refusal] = {
    Unblocked: TransitionRule(
        apply=waiting_steps.children_ended,
        to=(P.PENDING,),
        kinds=("task.unparked",),
        note="all its children have ended, however they did: queued again",
    ),
    CancelRequested: TransitionRule(
        apply=cancel_steps.cancel_waiting,
        to=(P.CANCELLED,),
        kinds=("task.cancelled",),
        note="its open children are cancelled too",
    ),
    Prioritized: TransitionRule(apply=waiting_steps.prioritize, to=(P.WAITING_CHILDREN,), kinds=("task.prioritized",)),
    TotalTimedOut: TransitionRule(apply=steps.total_timed_out, to=(P.TIMEOUT,), kinds=("task.timeout",)),
    Undelivered: TransitionRule(apply=unchanged, to=(), note="ignored: the lease has ended already"),
    Complete: LEASE_LOST,
    Fail: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    CancelAcknowledged: LEASE_LOST,
    Asked: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    ParkAsked: TransitionRule(apply=_repeated, to=(), note=_REPEAT),
    Answered: NOT_ASKING,
}

_AFTER_THE_END: dict[type[Event], TransitionRule | Refusal] = {
    Complete: TransitionRule(apply=steps.other_end, to=(), note=_OPPOSITE),
    Fail: TransitionRule(apply=steps.other_end, to=(), note=_OPPOSITE),
    CancelAcknowledged: LEASE_LOST,
    CancelRequested: ALREADY_TERMINAL,
    Undelivered: TransitionRule(apply=unchanged, to=(), note="ignored"),
    Prioritized: NOT_PENDING,
    Asked: LEASE_LOST,
    ParkAsked: LEASE_LOST,
    Answered: NOT_ASKING,
}
_REPEATED = TransitionRule(apply=_repeated, to=(), note=_REPEAT)

_ROWS: dict[TaskPhase, Mapping[type[Event], TransitionRule | Refusal]] = {
    P.PENDING: _LEAVES_QUEUE,
    P.INPUT_REQUIRED: _WAITS_FOR_PEOPLE,
    P.WAITING_CHILDREN: _WAITS_FOR_CHILDREN,
    P.RUNNING: {**_ENDS_ATTEMPT, CancelAcknowledged: LEASE_LOST, Prioritized: NOT_PENDING},
    P.CANCELLING: {**_ENDS_CANCELLING, Prioritized: NOT_PENDING},
    P.COMPLETED: {**_AFTER_THE_END, Complete: _REPEATED},
    P.FAILED: {**_AFTER_THE_END, Fail: _REPEATED},
    P.CANCELLED: {
        **_AFTER_THE_END,
        Fail: _REPEATED,
        CancelAcknowledged: _REPEATED,
        Asked: _REPEATED,
        ParkAsked: _REPEATED,
        CancelRequested: TransitionRule(apply=unchanged, to=(), note="answered as before"),
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
    Undelivered,
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
    Asked,
    ParkAsked,
    Answered,
    InputTimedOut,
)

#: Every pair of phase and event. A pair that no row above names is impossible.
TRANSITIONS: dict[tuple[TaskPhase, type[Event]], TransitionRule | Refusal] = {
    (phase, event): rows.get(event, IMPOSSIBLE) for phase, rows in _ROWS.items() for event in EVENTS
}
