"""Claims: what an agent asks for, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.base.compact import compact
from cluster.domain.scheduling.eligibility import Profile
from cluster.domain.tasks.task import TaskHead

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
