"""What a scheduler shard answers: leases, the tasks to stop, the task after a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.scheduling.requests import ReleaseRequest
from cluster.domain.tasks.task import TaskHead


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A lease as it is answered to a claim. It expires at ``expires_at`` (epoch seconds) unless it is renewed.

    ``delivery`` numbers this answer. ``redelivered``: an earlier answer carried the lease already."""

    head: TaskHead
    expires_at: float
    delivery: int
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredClaim:
    """The answer to a waiting claim: leases, ids of tasks that the agent should stop, or neither (it should claim again)."""

    ticket: int
    grants: tuple[Grant, ...] = ()
    stopping: tuple[str, ...] = ()


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A granted task. It expires at ``expires_at`` (epoch seconds) unless it is renewed. ``delivery`` identifies the answer that
    carries it: (generation of the shard, number). A lease that is answered again has another one."""

    head: TaskHead
    token: str
    expires_at: float
    redelivered: bool
    delivery: tuple[int, int]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAnswer:
    """The answer to a claim. ``cancelling`` are ids of tasks that the agent holds and should stop."""

    leases: tuple[Lease, ...] = ()
    cancelling: tuple[str, ...] = ()


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswer:
    """The tasks that their holders should stop."""

    cancelling: tuple[tuple[str, str, str], ...] = ()
    """(workspace, agent_id, task_id)"""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The task after the request. ``lease_expires_at`` is set for an extension only."""

    head: TaskHead
    lease_expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The answer to a brief report: it is durable."""


def undelivered(answer: Any) -> Iterator[ReleaseRequest]:
    """The requests that release the leases of an answer that reached nobody. Only a claim's answer has any."""
    for lease in answer.leases if isinstance(answer, ClaimAnswer) else ():
        assert lease.head.assigned_agent is not None, "a lease has a holder"
        yield ReleaseRequest(
            workspace=lease.head.workspace,
            task_id=lease.head.id,
            attempt=lease.head.attempt,
            agent_id=lease.head.assigned_agent,
            delivery=lease.delivery,
        )
