"""What a step of the task machine returns besides the next head: a decision to commit, and effects on queue and leases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskDecision, TaskHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """Put the task into the queue; it may not be claimed before ``not_before`` (epoch seconds)."""

    not_before: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequeue:
    """Take the task out of the queue, because it was claimed or has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLease:
    """Add the lease to the lease table; the new head names the holder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLease:
    """Remove the lease from the lease table; the old head names the holder. ``reached_nobody``: the answer with the lease was not
    delivered, so its task never ran."""

    reached_nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGrace:
    """Ask the holder to stop, and revoke the lease if the task still runs at ``until`` (epoch seconds)."""

    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitAnswer:
    """Wait for people's answer; the time for it is over at ``until`` (epoch seconds), None if it has no end."""

    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitChildren:
    """Wait until all children that the new head names have ended."""


Effect = Enqueue | Dequeue | StartLease | EndLease | StartGrace | AwaitAnswer | AwaitChildren


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The outcome of one step. ``decision`` is None if nothing has to be committed."""

    head: TaskHead
    decision: TaskDecision | None = None
    effects: tuple[Effect, ...] = ()


DEQUEUE, START_LEASE, END_LEASE = Dequeue(), StartLease(), EndLease()
END_UNDELIVERED = EndLease(reached_nobody=True)

Apply = Callable[[TaskHead, Any, float, RetryPolicy], Transition]
