"""Messages to actors and their answers: to the scheduler shard, and from deliberation workers to agent hosts.

A request that is refused is answered with an error of ``cluster.domain.base.errors``, which is raised at the asker. Every
request to the shard can be repeated with the same effect: a claim by its ``claim_id``, a report by its attempt, the others as
they are. ``cause`` is what led to a request (``LogRecord.cause``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.questions import Answer, Question
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import TaskHead


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
class ReportRequest:
    """How an attempt ended: completed if ``error`` is None, else failed, or ``stopped`` because the task is being cancelled,
    or ``released`` because the holder gives it back unfinished (``error`` says why, and may be empty).

    Without ``attempt`` (no lease token) the report counts for the current attempt. ``brief``: the asker needs to know only that
    the report is durable. ``checked``: ``write_json`` wrote the result, so the shard need not parse it. ``unsent``: the agent was
    never asked, so the task is queued again at once. ``unstorable``: the shard itself put this failure in the place of a report
    that the store had refused. ``cost_nanos``: what the attempt has cost (nano-dollars); None if the holder does not say."""

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
    released: bool = False
    unsent: bool = False
    brief: bool = False
    checked: bool = False
    unstorable: bool = False
    error_code: str | None = None
    cost_nanos: int | None = None
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """Cancels a task that waits, or asks the holder of a running one to stop."""

    workspace: str
    principal: str
    task_id: str
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendRequest:
    """Renews one lease. With ``progress`` it is answered when that, or a newer report of the same attempt, is durable."""

    workspace: str
    task_id: str
    attempt: int
    agent_id: str
    progress: Progress | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AskRequest:
    """Gives a lease back with a question to people. ``progress`` has the checkpoint from which the next attempt goes on.
    ``cost_nanos``: what the attempt has cost, in nano-dollars, if its holder says so."""

    workspace: str
    principal: str
    task_id: str
    attempt: int
    agent_id: str
    question: Question
    progress: Progress | None = None
    cost_nanos: int | None = None
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ParkRequest:
    """Gives a lease back until children of the task have ended. The asker has checked that they are its children. ``cost_nanos``:
    what the attempt has cost, in nano-dollars, if its holder says so."""

    workspace: str
    principal: str
    task_id: str
    attempt: int
    agent_id: str
    children: tuple[str, ...]
    progress: Progress | None = None
    cost_nanos: int | None = None
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """Answers the question that ``attempt`` of a task has asked. The asker has checked that the answer fits it, and that its
    principal may give it."""

    workspace: str
    task_id: str
    attempt: int
    answer: Answer
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class PrioritizeRequest:
    """Changes a waiting task's priority or position. What is None keeps its value; ``position`` counts from 1."""

    workspace: str
    principal: str
    task_id: str
    priority: int | None = None
    position: int | None = None
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest:
    """Asks what the shard knows of a task, and is answered with a ``TaskView``."""

    workspace: str
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest:
    """Renews every lease of these agents; of those in ``processes`` not the leases that another process claimed."""

    agents: tuple[tuple[str, str], ...]
    """(workspace, agent_id)"""
    processes: tuple[tuple[str, str, str], ...] = ()
    """(workspace, agent_id, process) of heartbeats that name their process"""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswer:
    """The tasks that their holders should stop."""

    cancelling: tuple[tuple[str, str, str], ...] = ()
    """(workspace, agent_id, task_id)"""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """Says that one answer with a lease, its ``delivery``, reached nobody, because the asker had hung up."""

    workspace: str
    task_id: str
    attempt: int
    agent_id: str
    delivery: tuple[int, int]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The task after the request. ``lease_expires_at`` is set for an extension only."""

    head: TaskHead
    lease_expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The answer to a brief report: it is durable."""


SchedulerRequest = (
    ClaimRequest
    | ReportRequest
    | CancelRequest
    | ExtendRequest
    | PrioritizeRequest
    | AskRequest
    | ParkRequest
    | AnswerRequest
    | HeartbeatRequest
    | ReleaseRequest
    | ExplainRequest
)


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


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """One question to one agent, on its way from a deliberation worker to the host that owns the agent."""

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
    """An agent's answer. ``tokens`` is the total; ``estimated`` if the server did not count them, so that we did."""

    text: str
    tokens: int
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
