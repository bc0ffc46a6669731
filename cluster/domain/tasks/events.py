"""Everything that can happen to a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cluster.domain.base.compact import compact
from cluster.domain.tasks.order_key import OrderKey
from cluster.domain.tasks.questions import Answer, Question
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import LeaseToken, Priority, TaskStatus


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports on an attempt. ``attempt`` and ``agent_id`` come from the lease token.

    Without a token ``attempt`` is None. The report then counts for the current attempt if its principal made the claim."""

    principal: str
    agent_id: str | None = None
    attempt: int | None = None

    @classmethod
    def of(cls, principal: str, token: LeaseToken) -> Reporter:
        """Who brings a lease's token."""
        return cls(principal=principal, agent_id=token.agent_id, attempt=token.attempt)

    @property
    def fenced(self) -> bool:
        return self.attempt is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``brought_by`` tells readers of the table who or what brings the event. ``cause`` is what led to this event
    (``LogRecord.cause``)."""

    brought_by: ClassVar[str] = ""
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAtReached(Event):
    brought_by: ClassVar[str] = "timer: `run_at` or the end of a backoff"


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Event):
    brought_by: ClassVar[str] = "an agent claims"
    agent_id: str
    claim_id: str
    principal: str


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(Event):
    brought_by: ClassVar[str] = "the holder reports a result"
    by: Reporter
    result_json: str | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Event):
    """``requeue`` is false if the holder says that another attempt would not help. ``given_back``: the attempt did not
    fail, the holder gives it back unfinished (it shuts down), which costs no retry. ``error_code`` is the reporter's own name for
    what failed."""

    brought_by: ClassVar[str] = "the holder reports a failure"
    by: Reporter
    error: str
    error_class: ErrorClass = ErrorClass.RETRYABLE
    requeue: bool = True
    retry_after_s: float | None = None
    given_back: bool = False
    error_code: str | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """``parent_ended``: nobody asked; its parent has ended without a result."""

    brought_by: ClassVar[str] = "a client cancels, or its parent ended without a result"
    principal: str
    parent_ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDelivered(Event):
    brought_by: ClassVar[str] = "the holder was told (heartbeat, claim or stream message)"


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAcknowledged(Event):
    brought_by: ClassVar[str] = "the holder says that it has stopped"
    by: Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelGraceOver(Event):
    brought_by: ClassVar[str] = "timer: the holder had its time to stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseExpired(Event):
    brought_by: ClassVar[str] = "timer: no heartbeat, claim or report from the holder"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(Event):
    brought_by: ClassVar[str] = "timer: run time exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTimedOut(Event):
    brought_by: ClassVar[str] = "timer: queue time exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalTimedOut(Event):
    brought_by: ClassVar[str] = "timer: total time exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLost(Event):
    """``was_deregistered`` is false if the agent only went offline. The attempt of one that was deregistered costs no retry."""

    brought_by: ClassVar[str] = "the holder is gone (offline or deregistered)"
    was_deregistered: bool


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered(Event):
    """The claimant had hung up before its lease was answered, so the attempt never reached it."""

    brought_by: ClassVar[str] = "a lease that nobody received is released"
    by: Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblocked(Event):
    brought_by: ClassVar[str] = "every task that it runs after, or waits for, has ended as it needs"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyFailed(Event):
    """The task ``after`` ended as ``status``, without a result."""

    brought_by: ClassVar[str] = "a task that it runs after ended without a result, and its edge says `fail`"
    after: str
    status: TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Prioritized(Event):
    """A field that is None keeps its present value."""

    brought_by: ClassVar[str] = "a client changes the priority, or the position"
    principal: str
    priority: Priority | None = None
    order_key: OrderKey | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Event):
    brought_by: ClassVar[str] = "the holder asks people"
    by: Reporter
    question: Question


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ParkAsked(Event):
    brought_by: ClassVar[str] = "the holder waits for children"
    by: Reporter
    children: tuple[str, ...]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """The answer to the question that ``attempt`` asked."""

    brought_by: ClassVar[str] = "a person answers"
    attempt: int
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTimedOut(Event):
    brought_by: ClassVar[str] = "timer: nobody answered in time"


#: How the holder of an attempt says that it ended.
ReportEvent = Complete | Fail | CancelAcknowledged | Undelivered
