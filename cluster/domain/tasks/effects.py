"""What a step of a task's machine gives besides the next head: a decision to commit, effects on queue and leases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskDecision, TaskHead


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


DEQUEUE, START_LEASE, END_LEASE = Dequeue(), StartLease(), EndLease()

Apply = Callable[[TaskHead, Any, float, RetryPolicy], Transition]
