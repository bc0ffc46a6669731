"""Messages between the API and the scheduler shard: what goes out is a request, what comes back its answer.

A request that cannot be granted is answered with an error of ``cluster.domain.base.errors``, raised at the asker. Every
request can be repeated: claims by ``claim_id``, reports by their lease token, the rest by nature. ``cause`` is what led
to a request, as its rows of the log will say it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import TaskHead


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """``expires_at`` in epoch seconds, as of the holder's last sign of life. ``delivery`` is this answer's: (generation of
    the shard, number). A lease that is answered again has another one."""

    head: TaskHead
    token: str
    expires_at: float
    redelivered: bool
    delivery: tuple[int, int]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAnswer:
    """``cancelling`` are ids of tasks that the agent holds and should stop."""

    leases: tuple[Lease, ...] = ()
    cancelling: tuple[str, ...] = ()


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """``error`` None is a completion, ``stopped`` the answer to a cancel. Without ``attempt`` (no token) the report
    counts for the current attempt. ``brief``: the asker needs no more than that it is durable. ``checked``: the result was
    written by ``write_json``, so that the shard need not read it."""

    workspace: str
    principal: str
    task_id: str
    attempt: int | None
    agent_id: str | None
    result_json: str | None = None
    error: str | None = None
    requeue: bool = True
    error_class: ErrorClass = ErrorClass.RETRYABLE
    retry_after_s: float | None = None
    stopped: bool = False
    brief: bool = False
    checked: bool = False
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    workspace: str
    principal: str
    task_id: str
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendRequest:
    workspace: str
    task_id: str
    attempt: int
    agent_id: str


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class PrioritizeRequest:
    """What is None stays as it is; ``position`` counts from 1."""

    workspace: str
    principal: str
    task_id: str
    priority: int | None = None
    position: int | None = None
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest:
    """Answered with a ``TaskView``; NotFound for a task that is not open."""

    workspace: str
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest:
    """Signs of life: renews every lease of these agents. The answer names tasks of theirs that are to be cancelled."""

    agents: tuple[tuple[str, str], ...]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswer:
    cancelling: tuple[tuple[str, str, str], ...] = ()
    """(workspace, agent_id, task_id)"""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """A lease whose asker had gone when it was answered: that ``delivery`` of the attempt reached nobody."""

    workspace: str
    task_id: str
    attempt: int
    agent_id: str
    delivery: tuple[int, int]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The task as it stands after the request. ``lease_expires_at`` for an extension."""

    head: TaskHead
    lease_expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a brief report is answered."""


SchedulerRequest = (
    ClaimRequest
    | ReportRequest
    | CancelRequest
    | ExtendRequest
    | PrioritizeRequest
    | HeartbeatRequest
    | ReleaseRequest
    | ExplainRequest
)


def undelivered(answer: Any) -> Iterator[ReleaseRequest]:
    """Gives back what was answered to nobody; only claims are answered with anything that can be."""
    for lease in answer.leases if isinstance(answer, ClaimAnswer) else ():
        assert lease.head.assigned_agent is not None, "a lease has a holder"
        yield ReleaseRequest(
            workspace=lease.head.workspace,
            task_id=lease.head.id,
            attempt=lease.head.attempt,
            agent_id=lease.head.assigned_agent,
            delivery=lease.delivery,
        )


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """One question to one agent, on its way from a deliberation worker to the host that carries the agent."""

    workspace: str
    agent_id: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    key: str
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReply:
    """``tokens`` in all; ``estimated`` where the server counted none and the numbers are ours."""

    text: str
    tokens: int
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
