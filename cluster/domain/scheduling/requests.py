"""What is asked of a scheduler shard.

A request that is refused is answered with an error of ``cluster.domain.base.errors``, which is raised at the asker. Every
request can be repeated with the same effect: a claim by its ``claim_id``, a report by its attempt, the others as they are.
What happens to a task travels as the event of its machine (`events`), which says who brings it, and its cause.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.base.compact import compact
from cluster.domain.scheduling.eligibility import Profile
from cluster.domain.tasks.events import (
    Answered,
    Asked,
    CancelRequested,
    ParkAsked,
    ReportEvent,
)
from cluster.domain.tasks.progress import Progress

AgentKey = tuple[str, str]
"""(workspace, agent_id)"""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """An agent's request for work. ``capabilities`` are its registered ones, narrowed by the request; ``regions`` those it is in.

    ``max_tasks`` None is the released client's claim: one task, or its oldest lease again if all slots are leased.
    ``client_claim_id``: the caller chose ``claim_id``, and gets the same leases for the same id. ``wait``: keep the claim until
    there is something for it. ``unschedulable``: the agent gets nothing new (paused, draining, unhealthy), and its claim
    waits until that changes. ``explicit_only``: the agent gets no task that requires nothing, unless the task names it.
    ``task_types``: only tasks of these types; None takes any. ``queues``: only those of these queues, likewise.
    ``version``: the worker's, in its normal form. ``cause``: the
    trace of the request. ``asked_at``: when the client asked, by its replica's clock (epoch seconds); of several claims under
    one id that a client chose, the newest is answered.
    ``after_seq``: the newest log row of a submit that its replica has acknowledged, whose task the claim must not miss.
    """

    workspace: str
    agent_id: str
    principal: str
    capabilities: frozenset[str]
    max_concurrency: int
    max_tasks: int | None
    claim_id: str
    client_claim_id: bool
    wait: bool = False
    regions: frozenset[str] = frozenset()
    unschedulable: bool = False
    explicit_only: bool = False
    cause: str = ""
    asked_at: float = 0.0
    task_types: frozenset[str] | None = None
    after_seq: int = 0
    queues: frozenset[str] | None = None
    version: str | None = None

    @property
    def agent(self) -> AgentKey:
        return self.workspace, self.agent_id

    @property
    def profile(self) -> Profile:
        return Profile(
            self.workspace,
            self.capabilities,
            self.explicit_only,
            self.regions,
            self.task_types,
            self.queues,
            self.version,
        )


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """How an attempt ended. Without an attempt in ``event.by`` (no lease token) it counts for the current one.

    ``brief``: the asker needs to know only that the report is durable. ``checked``: ``write_json`` wrote the result, so the shard
    need not parse it. ``unstorable``: the shard itself put this failure in the place of a report that the store had refused.
    ``cost_nanos``: what the attempt has cost (nano-dollars); None if the holder does not say."""

    workspace: str
    task_id: str
    event: ReportEvent
    brief: bool = False
    checked: bool = False
    unstorable: bool = False
    cost_nanos: int | None = None

    @property
    def cause(self) -> str:
        return self.event.cause


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """Cancels a task that waits, or asks the holder of a running one to stop."""

    workspace: str
    task_id: str
    event: CancelRequested

    @property
    def cause(self) -> str:
        return self.event.cause


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
    task_id: str
    event: Asked
    progress: Progress | None = None
    cost_nanos: int | None = None

    @property
    def cause(self) -> str:
        return self.event.cause


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ParkRequest:
    """Gives a lease back until children of the task have ended. The asker has checked that they are its children. ``progress``
    and ``cost_nanos`` are as those of `AskRequest`."""

    workspace: str
    task_id: str
    event: ParkAsked
    progress: Progress | None = None
    cost_nanos: int | None = None

    @property
    def cause(self) -> str:
        return self.event.cause


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """Answers the question that an attempt of a task has asked. The asker has checked that the answer fits it, and that its
    principal may give it."""

    workspace: str
    task_id: str
    event: Answered

    @property
    def cause(self) -> str:
        return self.event.cause


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
class ReleaseRequest:
    """Says that one answer with a lease, its ``delivery``, reached nobody, because the asker had hung up."""

    workspace: str
    task_id: str
    attempt: int
    agent_id: str
    delivery: tuple[int, int]


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
