"""Claims: what an agent asks for, what it gets, and the claims that wait because there was nothing for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.domain.base.compact import compact
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
    ``cause``: the trace of the request. ``asked_at``: when the client asked, by its replica's clock (epoch seconds); of several
    claims under one id that a client chose, the newest is answered.
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

    @property
    def agent(self) -> AgentKey:
        return self.workspace, self.agent_id


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


@dataclass(slots=True, eq=False)
class Waiting:
    """A claim that waits, under a ticket that its asker knows. ``withdrawn``: it waits no more; queues that still hold it skip
    it."""

    ticket: int
    request: ClaimRequest
    withdrawn: bool = False


class WaitingClaims:
    """Waiting claims in order of arrival, by capabilities and by agent. A withdrawn claim stays in its queues until they are
    next looked at, because removing it from the middle would cost their length."""

    def __init__(self) -> None:
        # (workspace, capabilities, explicit_only) → claims that the same tasks could satisfy, the oldest first. ``add`` adds;
        # ``offer`` removes those served or withdrawn, and empty queues.
        self._alike: dict[tuple[str, frozenset[str], bool], deque[Waiting]] = {}
        # Agent → its claims, the oldest first. ``add`` adds and drops withdrawn ones from the front; ``take_agent`` removes.
        self._by_agent: dict[AgentKey, deque[Waiting]] = {}
        # Ticket → claim, of those alone that still wait. ``add`` adds, ``withdraw`` removes.
        self._tickets: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: int, request: ClaimRequest) -> None:
        waiting = self._tickets[ticket] = Waiting(ticket, request)
        alike = self._alike.setdefault((request.workspace, request.capabilities, request.explicit_only), deque())
        for queue in (alike, self._by_agent.setdefault(request.agent, deque())):
            while queue and queue[0].withdrawn:
                queue.popleft()
            queue.append(waiting)

    def withdraw(self, ticket: int) -> bool:
        """Marks a claim as withdrawn; False if none waits under the ticket."""
        waiting = self._tickets.pop(ticket, None)
        if waiting is not None:
            waiting.withdrawn = True
        return waiting is not None

    def of_agent(self, agent: AgentKey) -> Iterator[Waiting]:
        return (waiting for waiting in self._by_agent.get(agent, ()) if not waiting.withdrawn)

    def take_agent(self, agent: AgentKey) -> list[Waiting]:
        """Removes an agent's claims and returns those that still wait. The caller withdraws each, which its other queue needs."""
        return [waiting for waiting in self._by_agent.pop(agent, ()) if not waiting.withdrawn]

    def offer(
        self,
        workspace: str,
        required: frozenset[str],
        give: Callable[[Waiting], bool],
        was_last: Callable[[Waiting], bool],
    ) -> None:
        """Offers something that became ready to the claims that could have it, in order of arrival among equal capabilities.

        ``give`` is true if the claim got something. A claim that got nothing keeps its position. If ``was_last`` is true of it,
        the claims behind it with the same capabilities are not asked."""
        explicit = bool(required)
        alike = [k for k in self._alike if k[0] == workspace and required <= k[1] and (explicit or not k[2])]
        for key in alike:
            queue, kept = self._alike[key], deque[Waiting]()
            while queue:
                waiting = queue.popleft()
                if waiting.withdrawn or give(waiting):
                    continue
                kept.append(waiting)
                if was_last(waiting):
                    break
            queue.extendleft(reversed(kept))
            if not queue:
                del self._alike[key]
